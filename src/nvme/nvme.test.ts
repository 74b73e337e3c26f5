import { blockContract } from "../../testing/block-contract.ts";
import { type NvmeMachineOptions, nvmeMachine } from "../../testing/nvme-machine.ts";
import type { NvmeOptions } from "./index.ts";

function open(machineOptions: NvmeMachineOptions, options: NvmeOptions, garbageBytesMax = 64) {
  return async () => {
    const machine = nvmeMachine(machineOptions);
    const controller = await machine.attach(options);
    const memory = machine.hostMemory(4 * 1024 * 1024);
    const { queue } = controller.namespaces[0];
    return {
      queue,
      memory,
      bytes: memory.region.bytes,
      poll: () => machine.fabric.poll() + controller.poll(),
      close: () => controller.shutdown(),
      garbageBytesMax,
    };
  };
}

blockContract("NVMe, PRPs", open({ model: { sgl: false } }, { queueDepth: 32 }));
blockContract("NVMe, SGLs", open({}, { queueDepth: 16, ioQueues: 3, sglThreshold: 512 }));
blockContract(
  "NVMe, submission queues in the CMB, strict IOMMU",
  // Here the fabric boxes addresses on their way through the IOMMU.
  open({ iommu: "strict" }, { queueDepth: 16, useCmbSqs: true }, 256),
);
