/**
 * CPU time of one 4 KiB peer I/O in four parts: build (take hold of the memory, make the bio),
 * split (check it against the queue's limits), map (address for the initiator), unmap (give it
 * back, let the memory go). And what the IOMMU was asked for.
 *
 * Every part runs over a batch between two readings of the clock; the figure is the median of the
 * rounds. Leaves out: the driver, the device and the data itself, the same for all five.
 */

import { type Bio, BioOp, BioPool, findSplit, QueueLimits, SplitPoint } from "../../block/index.ts";
import { assert } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import { Direction } from "../../memory/index.ts";
import type { Clock } from "../../platform/index.ts";
import type { Handle } from "./descriptions.ts";
import { type CompareSetup, PROVIDER_BYTES } from "./setup.ts";

const IO_BYTES = 4096;
const BATCH = 256;
const PAGES = PROVIDER_BYTES / IO_BYTES;
/** Odd, so that every page has its turn, and far apart, so that neighbours share no cache line. */
const STRIDE = 1237;

export interface IoCost {
  readonly buildNs: number;
  readonly splitNs: number;
  readonly mapNs: number;
  readonly unmapNs: number;
  /** Build, map and unmap: what differs. */
  readonly totalNs: number;
  /** Per I/O. */
  readonly iommuMaps: number;
  readonly iommuUnmaps: number;
  readonly iommuFlushes: number;
}

export class IoLoop {
  private readonly handle: Handle;
  private readonly initiator: number;
  private readonly bios: Bio[] = [];
  private readonly addresses = new Float64Array(BATCH);
  private readonly limits = new QueueLimits({ features: 4, dmaAlignment: 4, virtBoundary: 4096 });
  private readonly point = new SplitPoint();
  private next = 0;
  refused = 0;

  constructor(handle: Handle, initiator: number) {
    this.handle = handle;
    this.initiator = initiator;
    const pool = new BioPool(BATCH, 4);
    for (let bio = pool.acquire(); bio !== null; bio = pool.acquire()) this.bios.push(bio);
  }

  build(): void {
    const { handle, bios } = this;
    for (let i = 0; i < BATCH; i++) {
      const bio = bios[i];
      bio.reset();
      bio.op = BioOp.write;
      bio.sector = i * 8;
      const offset = handle.first + this.next * IO_BYTES;
      this.next = (this.next + STRIDE) % PAGES;
      if (!handle.begin(offset, IO_BYTES)) this.refused++;
      if (bio.addMemory(handle.memory, offset, IO_BYTES) !== 0) this.refused++;
    }
  }

  split(): void {
    for (let i = 0; i < BATCH; i++) {
      if (findSplit(this.bios[i], this.limits, this.point) !== 0) this.refused++;
    }
  }

  map(): void {
    const { bios, addresses, initiator } = this;
    for (let i = 0; i < BATCH; i++) {
      const bio = bios[i];
      const { fromMemory } = Direction;
      const address = bio.memories[0].map(initiator, bio.offsets[0], bio.lengths[0], fromMemory);
      if (address < 0) this.refused++;
      addresses[i] = address;
    }
  }

  unmap(): void {
    const { bios, addresses, handle, initiator } = this;
    for (let i = 0; i < BATCH; i++) {
      const bio = bios[i];
      const memory = bio.memories[0];
      if (memory.needsUnmap) memory.unmap(initiator, addresses[i], bio.lengths[0]);
      handle.end(bio.offsets[0], bio.lengths[0]);
    }
  }

  /** One batch of everything that differs between descriptions. */
  runAll(): void {
    this.build();
    this.map();
    this.unmap();
  }
}

export const IO_BATCH = BATCH;

/** One description to measure, for one initiator. */
export interface IoSubject {
  readonly setup: CompareSetup;
  readonly handle: Handle;
  readonly device: DmaDevice;
}

/** Measures all, turn and turn about, so that what disturbs the machine disturbs each. */
export function measureIos(
  subjects: readonly IoSubject[],
  clock: Pick<Clock, "nowNs">,
  rounds: number,
): IoCost[] {
  const runs = subjects.map(({ setup, handle, device }) => {
    const loop = new IoLoop(handle, device.id);
    const steps = [() => loop.build(), () => loop.split(), () => loop.map(), () => loop.unmap()];
    return { loop, steps, setup, samples: steps.map((): number[] => []) };
  });
  for (let round = 0; round < rounds; round++) {
    for (const { steps } of runs) for (const step of steps) step();
  }
  const before = runs.map(({ setup }) => operations(setup));
  for (let round = 0; round < rounds; round++) {
    for (const { steps, samples } of runs) {
      steps.forEach((step, part) => {
        const start = clock.nowNs();
        step();
        samples[part].push((clock.nowNs() - start) / BATCH);
      });
    }
  }
  return runs.map(({ loop, samples, setup }, i) => {
    assert(loop.refused === 0, "every measured I/O was mapped");
    const [buildNs, splitNs, mapNs, unmapNs] = samples.map(median);
    const [iommuMaps, iommuUnmaps, iommuFlushes] = operations(setup).map(
      (count, part) => (count - before[i][part]) / (rounds * BATCH),
    );
    const totalNs = buildNs + mapNs + unmapNs;
    return { buildNs, splitNs, mapNs, unmapNs, totalNs, iommuMaps, iommuUnmaps, iommuFlushes };
  });
}

function operations({ iommu }: CompareSetup): number[] {
  return iommu === null ? [0, 0, 0] : [iommu.maps, iommu.unmaps, iommu.flushes];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
