/**
 * GPUDirect Storage's job: the pieces of a file go from an SSD's namespace into VRAM. The file was
 * written before, by the same driver from host memory, and is not counted.
 */

import { BioPool, blockStatusName, type RequestQueue } from "../../block/index.ts";
import type { Reactor } from "../../core/index.ts";
import { type IoMemory, mapHostMemory } from "../../memory/index.ts";
import { NvmeController } from "../../nvme/index.ts";
import { ExtentFile, type FilePiece } from "./extent-file.ts";
import { FileLoad, type PieceTable } from "./file-load.hot.ts";
import type { JobResult, PreparedJob } from "./job.ts";
import type { GpuRig, PreparedGpuMachine } from "./rig.ts";
import type { GdsScenario } from "./schema.ts";
import type { GpuTarget } from "./target.ts";

export function fileOf({ file, namespace }: GdsScenario): ExtentFile {
  return new ExtentFile(file.extents, namespace.blockBytes, namespace.size);
}

function tableOf(pieces: readonly FilePiece[]): PieceTable {
  return {
    count: pieces.length,
    at: Float64Array.from(pieces, ({ at }) => at),
    offset: Float64Array.from(pieces, ({ offset }) => offset),
    length: Float64Array.from(pieces, ({ length }) => length),
  };
}

/** Attaches the SSD and writes the file. */
export async function prepareGds(
  rig: GpuRig,
  { choice }: PreparedGpuMachine,
  scenario: GdsScenario,
  payload: Uint8Array,
): Promise<PreparedJob> {
  const { context, reactor, fabric } = rig;
  const device = context.device(choice.partner);
  const ssd = await reactor.settle(NvmeController.attach(device), "the SSD");
  reactor.add(ssd);
  const queue = ssd.namespaces[0]?.queue as RequestQueue;
  const pieces = tableOf(fileOf(scenario).requests(scenario.workload.requestSize));
  const pool = new BioPool(scenario.workload.queueDepth, 1);
  const region = fabric.allocateHost(payload.length, 4096, "payload");
  region.bytes.set(payload);
  const source = mapHostMemory(region, [device]);
  const written = load(reactor, queue, source, pieces, pool, true);
  source.close();
  fabric.freeHost(region);
  return {
    partner: device,
    run: async ({ memory }: GpuTarget): Promise<JobResult> => {
      // A write that failed before would show as a wrong checksum; its status says more.
      return written.errors > 0 ? written : load(reactor, queue, memory, pieces, pool, false);
    },
    close: async () => undefined,
  };
}

function load(
  reactor: Reactor,
  queue: RequestQueue,
  memory: IoMemory,
  pieces: PieceTable,
  pool: BioPool,
  isWrite: boolean,
): JobResult {
  const work = new FileLoad(queue, memory, pieces, pool, isWrite);
  reactor.add(work);
  reactor.runUntil(() => work.isDone, "the file");
  reactor.remove(work);
  const { done, bytes, errors, firstStatus } = work;
  const firstError = errors === 0 ? null : blockStatusName(firstStatus);
  return { requests: done, bytes, errors, firstError };
}
