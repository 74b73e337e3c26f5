/**
 * CPU time of one peer I/O in four parts, and what the IOMMU and the translation of addresses were
 * asked for. Every part runs over a batch between two readings of the clock; the figure is the
 * median of the rounds. See io-loop.hot.ts for what a part is.
 */

import { assert } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import type { Clock } from "../../platform/index.ts";
import type { Handle } from "./descriptions.ts";
import { IoLoop } from "./io-loop.hot.ts";
import { type CompareSetup, iommuOperations } from "./setup.ts";
import type { CompareWorkload } from "./workload.ts";

export interface IoCost {
  readonly buildNs: number;
  /** Splitting and merging. */
  readonly splitNs: number;
  readonly mapNs: number;
  readonly unmapNs: number;
  /** Build, map and unmap: what differs. */
  readonly totalNs: number;
  /** Requests that one I/O comes to, after splitting and merging. */
  readonly requests: number;
  /** Addresses worked out for an initiator per I/O. */
  readonly translated: number;
  readonly iommuMaps: number;
  readonly iommuUnmaps: number;
  readonly iommuFlushes: number;
}

/** One description to measure, for one initiator. */
export interface IoSubject {
  readonly setup: CompareSetup;
  readonly handle: Handle;
  readonly device: DmaDevice;
}

/** Measures all, turn and turn about, so that what disturbs the machine disturbs each. */
export function measureIos(
  subjects: readonly IoSubject[],
  workload: CompareWorkload,
  clock: Pick<Clock, "nowNs">,
  rounds: number,
): IoCost[] {
  const runs = subjects.map(({ setup, handle, device }) => {
    const loop = new IoLoop(handle, device.id, workload);
    const steps = [() => loop.build(), () => loop.split(), () => loop.map(), () => loop.unmap()];
    return { loop, steps, setup, samples: steps.map((): number[] => []) };
  });
  for (let round = 0; round < rounds; round++) {
    for (const { steps } of runs) for (const step of steps) step();
  }
  const before = runs.map(({ setup }) => iommuOperations(setup.context));
  for (let round = 0; round < rounds; round++) {
    for (const { steps, samples } of runs) {
      steps.forEach((step, part) => {
        const start = clock.nowNs();
        step();
        samples[part].push((clock.nowNs() - start) / workload.depth);
      });
    }
  }
  return runs.map(({ loop, samples, setup }, i) => {
    assert(loop.refused === 0, "every measured I/O was mapped");
    const [buildNs, splitNs, mapNs, unmapNs] = samples.map(median);
    const [iommuMaps, iommuUnmaps, iommuFlushes] = iommuOperations(setup.context).map(
      (count, part) => (count - before[i][part]) / (rounds * workload.depth),
    );
    return {
      buildNs,
      splitNs,
      mapNs,
      unmapNs,
      totalNs: buildNs + mapNs + unmapNs,
      requests: loop.requests / (2 * rounds * workload.depth),
      translated: translatedPerIo(subjects[i], workload),
      iommuMaps,
      iommuUnmaps,
      iommuFlushes,
    };
  });
}

/**
 * Counted in a batch of its own, so that counting costs the measured ones nothing: calls that reach
 * the (provider, client) translation of the description. A lease has none: it was asked at opening.
 */
function translatedPerIo({ handle, device }: IoSubject, workload: CompareWorkload): number {
  const { routes } = handle;
  if (routes === null) return 0;
  let count = 0;
  const translate = routes.map;
  routes.map = (initiator, phys, length, direction) => {
    count++;
    return translate.call(routes, initiator, phys, length, direction);
  };
  const loop = new IoLoop(handle, device.id, workload);
  loop.runAll();
  routes.map = translate;
  return count / workload.depth;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
