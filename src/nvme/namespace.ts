/**
 * A namespace as a block device: its queue limits from what controller and namespace say, and the
 * request queue on top of the controller's I/O queues.
 */

import {
  IntegrityPolicy,
  metadataSlotBytes,
  NO_BOUNDARY,
  QueueFeature,
  QueueLimits,
  RequestQueue,
} from "../block/index.ts";
import { alignUp, PAGE_SIZE } from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import { type HostMemory, mapHostMemory } from "../memory/index.ts";
import { ONCS_COMPARE, ONCS_DSM, ONCS_VERIFY, ONCS_WRITE_ZEROES } from "../spec/nvme/index.ts";
import type { ControllerInfo, NamespaceInfo, NvmLimits } from "./identify.ts";
import { type IoEngine, NamespaceDriver } from "./io-engine.hot.ts";
import { NamespaceFormat } from "./io-queue.hot.ts";
import type { ResolvedOptions } from "./options.ts";
import { prpListPages } from "./prp.hot.ts";
import { sglListPages } from "./sgl.hot.ts";

/** Blocks of one command: NLB has 16 bits, 0's based. */
const BLOCKS_MAX = 65_536;
const DSM_BLOCKS_MAX = 2 ** 32 - 1;

/**
 * Largest transfer where the CPU makes protection information: every request has its own metadata
 * buffer, so the bound keeps them small.
 */
const CPU_INTEGRITY_BYTES_MAX = 256 * 1024;

export interface NvmeNamespace {
  readonly info: NamespaceInfo;
  readonly queue: RequestQueue;
  /** Metadata memory of the queue's own protection information, or null. */
  readonly metadata: HostMemory | null;
}

/** True when the queue may have to make protection information on the CPU. */
function needsCpuIntegrity(namespace: NamespaceInfo, options: ResolvedOptions): boolean {
  const { integrity } = namespace;
  if (integrity === null || integrity.extendedLba) return false;
  if (options.integrityPolicy === IntegrityPolicy.callerOnly) return false;
  return options.integrityPolicy === IntegrityPolicy.hostFirst || !integrity.controllerInserts;
}

/** Largest read or write in bytes: MDTS, the driver's own bound, 16 bits of blocks. */
export function transferBytes(info: ControllerInfo, options: ResolvedOptions): number {
  return Math.min(info.maxTransferBytes, options.maxTransferBytes);
}

/** List pages that one command can need. */
export function listPagesNeeded(info: ControllerInfo, options: ResolvedOptions): number {
  const { pageBytes } = options;
  // An offset in the first page adds one page; PRP1 takes one off.
  const prps = prpListPages(Math.ceil(transferBytes(info, options) / pageBytes), pageBytes);
  return Math.max(1, prps, sglListPages(segmentsMax(info, options), pageBytes));
}

/** Segments of one request: what the driver stores, and what the controller's SGLs take. */
export function segmentsMax(info: ControllerInfo, options: ResolvedOptions): number {
  const { maxSegments } = options;
  const hasSglLimit = usesSgls(info, options) && info.sglDescriptorsMax > 0;
  return hasSglLimit ? Math.min(maxSegments, info.sglDescriptorsMax) : maxSegments;
}

export function usesSgls(info: ControllerInfo, options: ResolvedOptions): boolean {
  return info.sglSupported && !options.noSgl;
}

export function limitsOf(
  controller: ControllerInfo,
  namespace: NamespaceInfo,
  nvm: NvmLimits,
  options: ResolvedOptions,
): QueueLimits {
  const { lbaBytes } = namespace;
  const { oncs } = controller;
  const blocksBytes = BLOCKS_MAX * lbaBytes;
  const bounded = (limit: number): number =>
    Math.min(limit === 0 ? blocksBytes : limit, blocksBytes);
  const feature = (isThere: boolean, bit: number): number => (isThere ? bit : 0);
  const discardBlocks = nvm.discardBlocks === 0 ? DSM_BLOCKS_MAX : nvm.discardBlocks;
  return new QueueLimits({
    logicalBlockBytes: lbaBytes,
    maxBytes: Math.min(
      transferBytes(controller, options),
      blocksBytes,
      needsCpuIntegrity(namespace, options) ? CPU_INTEGRITY_BYTES_MAX : blocksBytes,
    ),
    maxSegments: segmentsMax(controller, options),
    maxSegmentBytes: 2 ** 32 - 1,
    segmentBoundary: NO_BOUNDARY,
    // SGLs describe gaps; PRPs cannot.
    virtBoundary: usesSgls(controller, options) ? 0 : options.pageBytes,
    dmaAlignment: 4,
    chunkBytes: namespace.boundaryBytes,
    maxDiscardBytes: discardBlocks * lbaBytes,
    maxWriteZeroesBytes: bounded(nvm.writeZeroesBytes),
    maxVerifyBytes: bounded(nvm.verifyBytes),
    features:
      QueueFeature.dmaDirect |
      feature(controller.hasVolatileCache, QueueFeature.writeCache) |
      feature(controller.hasVolatileCache, QueueFeature.fua) |
      feature((oncs & ONCS_WRITE_ZEROES) !== 0, QueueFeature.writeZeroes) |
      feature((oncs & ONCS_DSM) !== 0, QueueFeature.discard) |
      feature((oncs & ONCS_COMPARE) !== 0, QueueFeature.compare) |
      feature((oncs & ONCS_VERIFY) !== 0, QueueFeature.verify) |
      feature(namespace.unmapsZeroes, QueueFeature.unmapZeroes),
  });
}

export interface NamespaceContext {
  readonly engine: IoEngine;
  readonly device: DmaDevice;
  /** Name of the controller, for the queue's. */
  readonly name: string;
  /** Requests of one namespace in flight at most. */
  readonly depth: number;
  readonly options: ResolvedOptions;
}

/** The block device of a namespace. Throws what allocating metadata memory throws. */
export function openNamespace(
  info: NamespaceInfo,
  limits: QueueLimits,
  context: NamespaceContext,
): NvmeNamespace {
  const { device, depth, options } = context;
  const driver = new NamespaceDriver(context.engine, new NamespaceFormat(info.nsid, info.lbaShift));
  let metadata: HostMemory | null = null;
  if (info.integrity !== null && needsCpuIntegrity(info, options)) {
    const bytes = metadataSlotBytes(limits, info.integrity) * depth;
    metadata = mapHostMemory(device.fn.machine.allocateHost(alignUp(bytes, PAGE_SIZE)), [device]);
  }
  const queue = new RequestQueue(driver, {
    name: `${context.name}n${info.nsid}`,
    limits,
    initiator: device.id,
    capacityBytes: info.capacityBytes,
    depth,
    integrity: info.integrity,
    integrityPolicy: options.integrityPolicy,
    integrityBuffers: metadata,
    tracer: options.tracer,
  });
  return { info, queue, metadata };
}

/** Gives back its memory. Its queue must have nothing in flight. */
export function closeNamespace(namespace: NvmeNamespace, device: DmaDevice): void {
  const { metadata } = namespace;
  if (metadata === null) return;
  metadata.close();
  device.fn.machine.freeHost(metadata.region);
}
