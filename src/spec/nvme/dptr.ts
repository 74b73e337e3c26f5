/**
 * Data pointers: PRP entries and lists (NVM Express Base 2.0, section 4.1.1) and SGL descriptors
 * (section 4.1.2). The rules that a walker enforces are here as constants and small functions; the
 * walkers themselves belong to the driver and to the controller model.
 *
 * PRP rules: PRP1 may start anywhere in a page (dword aligned); every other entry starts a page.
 * Two pages: PRP2 is the second. More: PRP2 points to a list, which may start anywhere 8-byte
 * aligned and runs to the end of its page; if the data needs more entries than fit, the last slot
 * of that page points to the next list page (offset 0).
 */

/** Bytes of one PRP entry. */
export const PRP_BYTES = 8;
export const SGL_BYTES = 16;

/** PRP entries that `length` bytes from `address` need with pages of `pageBytes`, PRP1 included. */
export function prpCount(address: number, length: number, pageBytes: number): number {
  const offset = address % pageBytes;
  return Math.ceil((offset + length) / pageBytes);
}

/** Byte offsets in an SGL descriptor. */
export const SglOffset = { address: 0, length: 8, type: 15 } as const;
/** Offsets in a Keyed SGL Data Block descriptor: 3 bytes of length, then the key. */
export const SglKeyedOffset = { address: 0, length: 8, key: 11, type: 15 } as const;

/** SGL Descriptor Type: bits 7:4 of byte 15. */
export const SglType = {
  dataBlock: 0x0,
  bitBucket: 0x1,
  segment: 0x2,
  lastSegment: 0x3,
  keyedDataBlock: 0x4,
  transportDataBlock: 0x5,
  vendor: 0xf,
} as const;

/** SGL Descriptor Sub Type: bits 3:0 of byte 15. */
export const SglSubtype = {
  /** The address field is an address. */
  address: 0x0,
  /** The address field is an offset: in the capsule (Fabrics) or in the CMB and PMR (PCIe). */
  offset: 0x1,
  /** RDMA: invalidate the key when done (keyed data blocks). */
  invalidateKey: 0xf,
  transport: 0xa,
} as const;

/** Byte 15 of a descriptor. */
export const packSglType = (type: number, subtype: number): number => (type << 4) | subtype;
/** Byte 15 in its place in dword 3 (or SQE dword 9). */
export const packSglTypeDword = (type: number, subtype: number): number =>
  (((type << 4) | subtype) << 24) >>> 0;

/** Writes a data block, bit bucket, segment or last segment descriptor. */
export function setSgl(
  view: DataView,
  offset: number,
  address: number,
  length: number,
  type: number,
  subtype = 0,
): void {
  view.setUint32(offset, address >>> 0, true);
  view.setUint32(offset + 4, Math.floor(address / 2 ** 32), true);
  view.setUint32(offset + SglOffset.length, length, true);
  view.setUint32(offset + 12, packSglTypeDword(type, subtype), true);
}

/** Writes a Keyed SGL Data Block descriptor; `length` is below 2^24. */
export function setKeyedSgl(
  view: DataView,
  offset: number,
  address: number,
  length: number,
  key: number,
  subtype = 0,
): void {
  view.setUint32(offset, address >>> 0, true);
  view.setUint32(offset + 4, Math.floor(address / 2 ** 32), true);
  view.setUint16(offset + SglKeyedOffset.length, length & 0xffff, true);
  view.setUint8(offset + SglKeyedOffset.length + 2, length >>> 16);
  view.setUint32(offset + SglKeyedOffset.key, key, true);
  view.setUint8(offset + SglKeyedOffset.type, packSglType(SglType.keyedDataBlock, subtype));
}

export const sglType = (view: DataView, offset: number): number =>
  view.getUint8(offset + SglOffset.type) >> 4;
export const sglSubtype = (view: DataView, offset: number): number =>
  view.getUint8(offset + SglOffset.type) & 0xf;
/** The address; exact below 2^53. */
export const sglAddress = (view: DataView, offset: number): number =>
  view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
export const sglLength = (view: DataView, offset: number): number =>
  view.getUint32(offset + SglOffset.length, true);
export const sglKeyedLength = (view: DataView, offset: number): number =>
  view.getUint16(offset + SglKeyedOffset.length, true) +
  view.getUint8(offset + SglKeyedOffset.length + 2) * 65_536;
export const sglKey = (view: DataView, offset: number): number =>
  view.getUint32(offset + SglKeyedOffset.key, true);
