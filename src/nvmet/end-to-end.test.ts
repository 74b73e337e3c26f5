import { describe, expect, it } from "vitest";
import { Bench } from "../../testing/nvmet-transport-contract.ts";
import { targetRig } from "../../testing/target-rig.ts";
import { Prng } from "../core/index.ts";
import { NvmOpcode } from "../spec/nvme/index.ts";
import { HostCommand, SubmitStatus } from "./index.ts";

describe("a write over RDMA", () => {
  it("reaches the disk through the CMB", async () => {
    const rig = await targetRig({ description: "lease" });
    const host = rig.host({ depth: 16 });
    await rig.settle(host.connect());
    const data = await rig.settle(rig.data(host, 65536));
    new Prng(1).fill(data.bytes);
    const command = new HostCommand({ commandDone() {} });
    command.opcode = NvmOpcode.write;
    command.nsid = 1;
    command.setRange(8, 8, false);
    command.setData(data.buffer, 0, 4096);
    expect(host.queues[0].submit(command)).toBe(SubmitStatus.ok);
    host.queues[0].kick();
    rig.reactor.runUntil(() => !command.isBusy, "the write");
    expect(command.status).toBe(0);
    console.log(JSON.stringify(rig.assembly.orchestrator.inspect(), null, 1));
  });
});
void Bench;
