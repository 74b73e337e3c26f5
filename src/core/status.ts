/**
 * Integer statuses of the lowest data plane: what became of one DMA. They come back from the
 * fabric's and a device's DMA port; upper layers translate them to NVMe, block or work-completion
 * statuses. Zero is success, so a test against zero is the whole hot path.
 */

/** What became of one DMA. PCIe Base 6.x section 2.2.9 for UR and CA. */
export const DmaStatus = {
  ok: 0,
  /** Nobody claimed the address: Unsupported Request (or master abort on the root bus). */
  unsupportedRequest: 1,
  /** The completer refused: Completer Abort. */
  completerAbort: 2,
  /** The IOMMU had no translation, or one without the permission. */
  iommuFault: 3,
  /** ACS violation: source validation, translation blocking, egress control. */
  acsViolation: 4,
  /** Bus Master Enable is clear at the device or at a bridge above it. */
  busMasterDisabled: 5,
  /** The completion never came: link down, root complex that drops peer reads. */
  completionTimeout: 6,
  /**
   * A posted write that the fabric dropped in silence. The initiator cannot see this: the status is
   * for the trace and for tests; a device model must treat it as success.
   */
  droppedSilently: 7,
} as const;
export type DmaStatus = (typeof DmaStatus)[keyof typeof DmaStatus];

export const DMA_STATUS_NAMES: readonly string[] = [
  "success",
  "Unsupported Request",
  "Completer Abort",
  "IOMMU fault",
  "ACS violation",
  "Bus Master Enable clear",
  "completion timeout",
  "dropped silently",
];

/** True where the initiator itself learns of the failure. */
export function isVisibleToInitiator(status: number): boolean {
  return status !== DmaStatus.ok && status !== DmaStatus.droppedSilently;
}
