/**
 * What the CPU-side operations of a block layer may do to a dma-direct bio, whose bytes the CPU
 * cannot reach. Four classes: allow, skip in silence (there is nothing to do for device memory),
 * refuse, and refuse with a warning (a caller that gets here is wrong).
 *
 * Two tables: the RFC's (linux-pci, June 2019, patches 3 to 5), and this room's, which differs in
 * one entry: protection information is refused instead of skipped, because skipping it sent the I/O
 * on without. Host bios are always allowed.
 */

/** Operations by what they do; in comments the block-layer functions they stand for. */
export const CpuOperation = {
  /** zero_fill_bio. */
  zeroFill: 0,
  /** bio_copy_data. */
  copyData: 1,
  /** bio_copy_from_iter. */
  copyIn: 2,
  /** bio_copy_to_iter. */
  copyOut: 3,
  /** bio_add_page and __bio_add_page. */
  addPage: 4,
  /** bio_add_pc_page. */
  addPassthroughPage: 5,
  /** __bio_try_merge_page. */
  mergePage: 6,
  /** bio_iov_iter_get_pages. */
  pinUserPages: 7,
  /** bio_get_pages: taking references. */
  getPages: 8,
  /** bio_free_pages. */
  freePages: 9,
  /** bio_set_pages_dirty. */
  setDirty: 10,
  /** bio_check_pages_dirty. */
  checkDirty: 11,
  /** bio_flush_dcache_pages, rq_flush_dcache_pages. */
  flushCache: 12,
  /** blk_queue_bounce. */
  bounce: 13,
  /** bio_integrity_prep: making protection information on the CPU. */
  makeIntegrity: 14,
} as const;
export type CpuOperation = (typeof CpuOperation)[keyof typeof CpuOperation];

export const CPU_OPERATION_NAMES: readonly string[] = [
  "zero-fill",
  "copy-data",
  "copy-in",
  "copy-out",
  "add-page",
  "add-passthrough-page",
  "merge-page",
  "pin-user-pages",
  "get-pages",
  "free-pages",
  "set-dirty",
  "check-dirty",
  "flush-cache",
  "bounce",
  "make-integrity",
];

export const OperationClass = {
  allow: 0,
  /** Nothing to do; the I/O goes on. */
  skip: 1,
  refuse: 2,
  /** Refuse, and count it as a bug of the caller. */
  refuseAndWarn: 3,
} as const;
export type OperationClass = (typeof OperationClass)[keyof typeof OperationClass];

export const OPERATION_CLASS_NAMES: readonly string[] = [
  "allow",
  "skip",
  "refuse",
  "refuse-and-warn",
];

function tableOf(entries: Readonly<Record<number, OperationClass>>): Uint8Array {
  return Uint8Array.from(CPU_OPERATION_NAMES, (_, operation) => entries[operation] as number);
}

const C = OperationClass;
const COMMON = {
  [CpuOperation.zeroFill]: C.refuseAndWarn,
  [CpuOperation.copyData]: C.refuseAndWarn,
  [CpuOperation.copyIn]: C.refuseAndWarn,
  [CpuOperation.copyOut]: C.refuseAndWarn,
  [CpuOperation.addPage]: C.refuseAndWarn,
  [CpuOperation.addPassthroughPage]: C.refuse,
  [CpuOperation.mergePage]: C.refuseAndWarn,
  [CpuOperation.pinUserPages]: C.refuseAndWarn,
  [CpuOperation.getPages]: C.refuseAndWarn,
  [CpuOperation.freePages]: C.refuseAndWarn,
  [CpuOperation.setDirty]: C.skip,
  [CpuOperation.checkDirty]: C.skip,
  [CpuOperation.flushCache]: C.skip,
  [CpuOperation.bounce]: C.skip,
} as const;

/** The posted series. It warned in `addPage` and `getPages` and went on; here they are refused. */
export const RFC_CLASSES: Uint8Array = tableOf({
  ...COMMON,
  [CpuOperation.makeIntegrity]: C.skip,
});

/** This room's. */
export const OPERATION_CLASSES: Uint8Array = tableOf({
  ...COMMON,
  [CpuOperation.makeIntegrity]: C.refuse,
});
