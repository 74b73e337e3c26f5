/**
 * GPUDirect RDMA's job: a remote host writes its buffer into VRAM by RDMA WRITE, then a flag. The
 * GPU waits for the flag (a semaphore in VRAM), so no CPU of this machine tells it that the data is
 * there; where payload goes through host memory, there is no flag and the CPU starts the copy.
 *
 * The remote host is a twin of the local NIC, behind the same bridges, alone in its machine.
 */

import { PAGE_SIZE, type Reactor } from "../../core/index.ts";
import { DmaContext } from "../../dma/index.ts";
import { buildFabric, RnicModel } from "../../fabric/index.ts";
import { LeaseMemory, mapHostMemory } from "../../memory/index.ts";
import { type Cq, type Mr, type Pd, type Qp, RdmaDevice } from "../../rdma/index.ts";
import { Access, WC_STATUS_NAMES } from "../../spec/rdma/index.ts";
import { twinOf } from "../rig.ts";
import type { JobResult, PreparedJob } from "./job.ts";
import { type GpuRig, LOCAL_ADDRESS, type PreparedGpuMachine } from "./rig.ts";
import type { GpuRdmaScenario } from "./schema.ts";
import type { GpuTarget } from "./target.ts";
import { type RemoteRange, WriteLoad } from "./write-load.hot.ts";

const REMOTE_ADDRESS = "10.0.0.2";
const PORT = 7174;
/** Where the remote host sees the region of the dma-buf. */
const IOVA = 0x10_0000_0000;
const TARGET_ACCESS = Access.localWrite | Access.remoteWrite;
const FLAG = 1;

interface End {
  readonly device: RdmaDevice;
  readonly pd: Pd;
  readonly cq: Cq;
  readonly qp: Qp;
}

async function makeEnd(device: RdmaDevice, depth: number): Promise<End> {
  const pd = await device.allocPd();
  const cq = await device.createCq(2 * depth + 2);
  const options = { sendCq: cq, recvCq: cq, maxSend: depth + 1, maxRecv: 1, maxSge: 1 };
  return { device, pd, cq, qp: await device.createQp(pd, options) };
}

/** Both ends, connected through the connection manager. */
async function connect(reactor: Reactor, local: End, remote: End): Promise<void> {
  let accepted: Promise<unknown> = Promise.resolve();
  const listener = local.device.cm.listen(PORT, (request) => {
    accepted = request.accept(local.qp, { rnrRetryCount: 7 });
  });
  const { qp } = remote;
  const connecting = remote.device.cm.connect({
    qp,
    address: LOCAL_ADDRESS,
    port: PORT,
    rnrRetryCount: 7,
  });
  await reactor.settle(connecting, "the connection");
  await reactor.settle(accepted, "the connection");
  listener.close();
}

export async function prepareGpuRdma(
  rig: GpuRig,
  { choice }: PreparedGpuMachine,
  { workload }: GpuRdmaScenario,
  payload: Uint8Array,
): Promise<PreparedJob> {
  const { context, reactor, scheduler, wire, machine } = rig;
  const remoteFabric = buildFabric(twinOf(machine, choice.partner), {
    scheduler,
    model: (fn, { barSizes, copier }) =>
      fn.bdf === choice.partner
        ? new RnicModel({ barBytes: barSizes[0] ?? 0, wire, address: REMOTE_ADDRESS, copier })
        : null,
  });
  const partner = context.device(choice.partner);
  const nic = await RdmaDevice.attach(partner);
  const remoteContext = new DmaContext(remoteFabric, { iommu: "off" });
  const remoteNic = await RdmaDevice.attach(remoteContext.device(choice.partner));
  for (const poller of [remoteFabric, nic, remoteNic]) reactor.add(poller);
  const local = await reactor.settle(makeEnd(nic, workload.queueDepth), "the local queue pair");
  const remote = await reactor.settle(makeEnd(remoteNic, workload.queueDepth), "the remote one");
  await connect(reactor, local, remote);
  const region = remoteFabric.allocateHost(payload.length + PAGE_SIZE, PAGE_SIZE, "payload");
  region.bytes.set(payload);
  region.bytes[payload.length] = FLAG;
  const memory = mapHostMemory(region, [remoteNic.dma]);
  const source = await reactor.settle(
    remote.pd.registerMemory(memory, 0, region.bytes.length, 0),
    "registration",
  );
  return {
    partner,
    run: async (target) => {
      const mr = await reactor.settle(register(local.pd, target), "registration");
      const flag =
        target.buffer.place.kind === "vram" && target.memory.cpuAccessible === false
          ? await makeFlag(rig, local.pd, target)
          : null;
      const result = await write(rig, remote, source, mr, flag, workload, target);
      await reactor.settle(mr.deregister(), "deregistration");
      await flag?.close();
      return result;
    },
    close: async () => {
      await reactor.settle(remoteNic.close(), "the remote NIC to close");
      await reactor.settle(nic.close(), "the NIC to close");
    },
  };
}

/** A dma-buf is registered as one; anything else as the memory it is. */
function register(pd: Pd, { memory, dmaBuf, buffer }: GpuTarget): Promise<Mr> {
  const length = buffer.sizeBytes;
  if (dmaBuf === null) return pd.registerMemory(memory, 0, length, TARGET_ACCESS);
  return pd.registerDmaBuf(dmaBuf, { offset: 0, length, iova: IOVA, access: TARGET_ACCESS });
}

interface Flag {
  readonly range: RemoteRange;
  /** Settles when the GPU has seen it. */
  readonly seen: Promise<void>;
  close(): Promise<void>;
}

/** A semaphore of the GPU's that the remote host may write. */
async function makeFlag(rig: GpuRig, pd: Pd, target: GpuTarget): Promise<Flag> {
  const { gpu, reactor, rules } = rig;
  const buffer = gpu.allocate(PAGE_SIZE, "visible", "flag");
  await reactor.settle(gpu.fill(buffer, 0, PAGE_SIZE, 0), "the flag");
  const close: (() => Promise<void>)[] = [];
  let mr: Mr;
  if (target.dmaBuf === null) {
    const lease = gpu.lease(buffer, [pd.device.dma], rules);
    close.push(() => lease.close());
    const registering = pd.registerMemory(new LeaseMemory(lease), 0, PAGE_SIZE, TARGET_ACCESS);
    mr = await reactor.settle(registering, "registration");
  } else {
    const exported = gpu.exportBuffer(buffer, { rules });
    close.push(() => exported.revoke("the run is over"));
    const part = { offset: 0, length: PAGE_SIZE, iova: 0, access: TARGET_ACCESS };
    mr = await reactor.settle(pd.registerDmaBuf(exported.dmaBuf, part), "registration");
  }
  // Ten simulated seconds: longer than any workload; a remote host that dies is found out.
  const seen = gpu.acquire(buffer, 0, FLAG, 1e9);
  return {
    range: { address: mr.address, rkey: mr.rkey },
    seen,
    close: async () => {
      await reactor.settle(mr.deregister(), "deregistration");
      for (const step of close) await reactor.settle(step(), "the flag");
      gpu.free(buffer);
    },
  };
}

async function write(
  { reactor }: GpuRig,
  remote: End,
  source: Mr,
  target: Mr,
  flag: Flag | null,
  workload: GpuRdmaScenario["workload"],
  { buffer }: GpuTarget,
): Promise<JobResult> {
  const { requestSize, queueDepth } = workload;
  const range = { address: target.address, rkey: target.rkey };
  const work = new WriteLoad(
    remote.qp,
    remote.cq,
    source.address,
    source.lkey,
    range,
    buffer.sizeBytes,
    requestSize,
    queueDepth,
    flag?.range ?? null,
    source.address + buffer.sizeBytes,
  );
  reactor.add(work);
  reactor.runUntil(() => work.isDone, "the remote host's writes");
  reactor.remove(work);
  const { done, bytes, errors, firstStatus } = work;
  const seen = flag?.seen.catch(() => undefined);
  if (seen !== undefined) await reactor.settle(seen, "the GPU to see the flag");
  const firstError = errors === 0 ? null : (WC_STATUS_NAMES[firstStatus] ?? String(firstStatus));
  return { requests: done, bytes, errors, firstError };
}
