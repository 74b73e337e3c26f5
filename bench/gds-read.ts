/**
 * GPUDirect Storage's job: 1 MiB reads from an NVMe namespace into VRAM, block queue to aperture,
 * under a lease and into a dma-buf, against one `Uint8Array.set` of that size. Beside the copy, a
 * read is a command, a PRP list of 256 entries and a completion.
 */

import { type Bio, BioOp, type BioOwner, BioPool, type RequestQueue } from "../src/block/index.ts";
import { DmaContext } from "../src/dma/index.ts";
import { buildFabric, type Fabric, gpuModelFor, NvmeModel } from "../src/fabric/index.ts";
import { GpuDevice } from "../src/gpu/index.ts";
import { type HoldableMemory, importDmaBuf, LeaseMemory } from "../src/memory/index.ts";
import { NvmeController } from "../src/nvme/index.ts";
import { Rules, Topology } from "../src/p2p/index.ts";
import { MachineBuilder } from "../testing/machine-builder.ts";
import { drive } from "../testing/rdma-pair.ts";
import { type Bench, cpuClock, formatNs, interleave } from "./lib.ts";

const BYTES = 2 ** 20;
const DEPTH = 4;
/** More than caches hold, as in `fabric-dma`: a file's data is in none. */
const SLOTS = 32;

/** Moves the same MiBs again and again, each between its own place and its own blocks. */
class Transfers implements BioOwner {
  failed = 0;
  private left = 0;
  private next = 0;
  private readonly fabric: Fabric;
  private readonly queue: RequestQueue;
  private readonly memory: HoldableMemory;
  private readonly bios: Bio[] = [];

  constructor(fabric: Fabric, queue: RequestQueue, memory: HoldableMemory, op: BioOp) {
    this.fabric = fabric;
    this.queue = queue;
    this.memory = memory;
    const pool = new BioPool(SLOTS, 1);
    for (let i = 0; i < SLOTS; i++) {
      const bio = pool.acquire() as Bio;
      bio.op = op;
      bio.owner = this;
      bio.sector = (i * BYTES) / 512;
      bio.addMemory(memory, i * BYTES, BYTES);
      this.bios.push(bio);
    }
  }

  /** The next of the slots. At most DEPTH are under way, so it is not. */
  private submit(): void {
    const bio = this.bios[this.next] as Bio;
    this.next = (this.next + 1) % SLOTS;
    if (this.memory.begin()) this.queue.submit(bio);
    else this.failed++;
  }

  bioDone(bio: Bio): void {
    this.memory.end();
    if (bio.status !== 0) this.failed++;
    if (this.left-- > 0) this.submit();
  }

  run(calls: number): void {
    this.left = calls - DEPTH;
    for (let i = 0; i < DEPTH; i++) this.submit();
    this.queue.kick();
    while (this.fabric.poll() + this.queue.poll() > 0);
  }
}

async function setUp() {
  const builder = new MachineBuilder("gds");
  const root = builder.root({ busOffset: -0x1000_0000 });
  const { ports } = builder.switch(builder.rootPort(root), 2);
  const ssd = builder.endpoint(ports[0], { bars: [16 * 1024] });
  const gpu = builder.endpoint(ports[1], { bars: [64 * 1024, 64 * BYTES], classCode: 0x030200 });
  const snapshot = builder.build();
  const fabric = buildFabric(snapshot, {
    model: (fn, tools) => {
      if (fn.bdf === gpu.bdf) return gpuModelFor(tools);
      if (fn.bdf !== ssd.bdf) return null;
      const namespaces = [{ sizeBytes: 64 * BYTES, lbaBytes: 4096 as const }];
      return new NvmeModel({ copier: tools.copier, namespaces });
    },
  });
  const context = new DmaContext(fabric, { iommu: "off", snapshot });
  const device = context.device(ssd.bdf);
  const controller = await NvmeController.attach(device);
  const driver = GpuDevice.attach(context.device(gpu.bdf));
  const rules = new Rules(new Topology(snapshot));
  const queue = controller.namespaces[0].queue;
  const settle = <T>(promise: Promise<T>): Promise<T> =>
    drive(promise, () => fabric.poll() + driver.poll());
  return { fabric, device, driver, rules, queue, settle };
}

function gdsRead(how: "lease" | "dma-buf", limit: number): Bench {
  return {
    name: `gds-read-${how}`,
    claim: `1 MiB reads from a namespace into VRAM (${how}), as a share of the rate of one set`,
    async run() {
      const { fabric, device, driver, rules, queue, settle } = await setUp();
      const buffer = driver.allocate(SLOTS * BYTES);
      let memory: HoldableMemory;
      if (how === "lease") memory = new LeaseMemory(driver.lease(buffer, [device], rules));
      else {
        const { dmaBuf } = driver.exportBuffer(buffer, { rules });
        const imported = await importDmaBuf(dmaBuf, [device]);
        await settle(imported.map());
        memory = imported.memory;
      }
      // The medium must hold something, or reads lend zeros and the caches stay warm.
      await settle(driver.fill(buffer, 0, SLOTS * BYTES, 0x5a));
      const writes = new Transfers(fabric, queue, memory, BioOp.write);
      writes.run(SLOTS);
      const reads = new Transfers(fabric, queue, memory, BioOp.read);
      reads.run(400);
      const source = new Uint8Array(SLOTS * BYTES).fill(1);
      const target = new Uint8Array(SLOTS * BYTES).fill(2);
      const views = Array.from({ length: SLOTS }, (_, i) =>
        source.subarray(i * BYTES, (i + 1) * BYTES),
      );
      let slot = 0;
      const copy = (calls: number): void => {
        for (let i = 0; i < calls; i++) {
          slot = (slot + 1) % SLOTS;
          target.set(views[slot] as Uint8Array, slot * BYTES);
        }
      };
      const work = (calls: number): void => reads.run(calls);
      const rounds = { calls: 40, rounds: 31 };
      const { ratio, subjectNs, referenceNs } = interleave(cpuClock, work, copy, rounds);
      if (reads.failed + writes.failed > 0) throw new Error(`${reads.failed} reads failed`);
      return {
        ratio,
        limit,
        bound: "at-least",
        figures: `read ${formatNs(subjectNs)}, set ${formatNs(referenceNs)}`,
      };
    },
  };
}

export const gdsReadLease = gdsRead("lease", 0.6);
export const gdsReadDmaBuf = gdsRead("dma-buf", 0.6);
