/**
 * The VRAM that a run moves data into, and the memory by which the partner reaches it: a bounce
 * buffer in host memory, a lease of the aperture, or a dma-buf.
 *
 * A refusal of the rules ends the run, or (policy `host-memory`) leads through host memory, and the
 * run says so: `fellBack`.
 */

import { PeerlaneError } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import type { GpuBuffer } from "../../gpu/index.ts";
import {
  type DmaBuf,
  type DmaBufImport,
  type HostMemory,
  type IoMemory,
  importDmaBuf,
  LeaseMemory,
  mapHostMemory,
} from "../../memory/index.ts";
import type { GpuRig } from "./rig.ts";
import type { GpuRunName } from "./schema.ts";

export interface GpuTarget {
  readonly buffer: GpuBuffer;
  /** What the partner's I/O names. */
  readonly memory: IoMemory;
  /** For RDMA, which registers the buffer itself; null for other descriptions. */
  readonly dmaBuf: DmaBuf | null;
  readonly fellBack: boolean;
  /** Before the partner's I/O: maps what a move may have taken back. */
  start(): Promise<void>;
  /** After the partner's I/O: makes the bytes the GPU's, if they are not yet. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Allocates `sizeBytes` of visible VRAM and what the run needs beside it. Throws `no-route` (or
 * `dma-buf-attach`) when the rules refuse the partner and the policy is `fail`.
 */
export async function makeTarget(
  rig: GpuRig,
  partner: DmaDevice,
  run: GpuRunName,
  sizeBytes: number,
  mayFallBack: boolean,
): Promise<GpuTarget> {
  // Only the GPU itself reaches it where payload comes through host memory.
  const placement = run === "host-memory" ? "any" : "visible";
  const buffer = rig.gpu.allocate(sizeBytes, placement, "payload");
  try {
    if (run === "dma-buf") return await dmaBufTarget(rig, partner, buffer, mayFallBack);
    if (run === "lease") return leaseTarget(rig, partner, buffer);
  } catch (error) {
    const refused = error instanceof PeerlaneError && error.code === "no-route";
    if (!refused || !mayFallBack) throw error;
    return bounceTarget(rig, partner, buffer, true);
  }
  return bounceTarget(rig, partner, buffer, false);
}

function leaseTarget(rig: GpuRig, partner: DmaDevice, buffer: GpuBuffer): GpuTarget {
  const lease = rig.gpu.lease(buffer, [partner], rig.rules);
  return {
    buffer,
    memory: new LeaseMemory(lease),
    dmaBuf: null,
    fellBack: false,
    start: async () => undefined,
    finish: async () => undefined,
    close: () => lease.close(),
  };
}

async function dmaBufTarget(
  rig: GpuRig,
  partner: DmaDevice,
  buffer: GpuBuffer,
  mayFallBack: boolean,
): Promise<GpuTarget> {
  const { rules, gpu, reactor } = rig;
  const exported = gpu.exportBuffer(buffer, { rules, vramOnly: !mayFallBack });
  const imported: DmaBufImport = await importDmaBuf(exported.dmaBuf, [partner]);
  await reactor.settle(imported.map(), "the dma-buf to be mapped");
  return {
    buffer,
    memory: imported.memory,
    dmaBuf: exported.dmaBuf,
    fellBack: buffer.place.kind === "host",
    start: () => imported.map(),
    finish: () => exported.makeResident(),
    close: () => exported.revoke("the run is over"),
  };
}

function bounceTarget(
  { fabric, gpu }: GpuRig,
  partner: DmaDevice,
  buffer: GpuBuffer,
  fellBack: boolean,
): GpuTarget {
  const region = fabric.allocateHost(buffer.sizeBytes, 4096, "payload");
  const memory: HostMemory = mapHostMemory(region, [partner, gpu.dma]);
  return {
    buffer,
    memory,
    dmaBuf: null,
    fellBack,
    start: async () => undefined,
    finish: () => gpu.copyFrom(memory, 0, buffer, 0, buffer.sizeBytes),
    close: async () => {
      memory.close();
      fabric.freeHost(region);
    },
  };
}
