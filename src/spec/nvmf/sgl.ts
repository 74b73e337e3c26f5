/**
 * SGL descriptors of capsules: the keyed data block that names remote memory, the data block with
 * an offset that names in-capsule data, and the last segment that names a list in the capsule.
 * Little-endian. NVM Express Base Specification 2.0, section 4.1.2; NVMe RDMA Transport
 * Specification 1.0, section 3.3.
 *
 * RDMA allows exactly these three, and only in the capsule; no list in host memory. TCP has the
 * transport data block instead of keys (TCP Transport Specification 1.0, section 3.2).
 */

import { setU64LE } from "../../core/index.ts";

export const SGL_BYTES = 16;

/** The last byte of the descriptors that a capsule may hold: type and subtype in one compare. */
export const SglId = {
  offsetData: 0x01,
  offsetLastSegment: 0x31,
  keyed: 0x40,
  keyedInvalidate: 0x4f,
  /** NVMe/TCP: the data goes over the connection, and only its length is told. */
  transportData: 0x5a,
} as const;

export const SglOffset = {
  /** Data block and segment: 4 bytes. */
  LENGTH: 8,
  /** Keyed: 3 bytes. */
  KEYED_LENGTH: 8,
  KEYED_KEY: 11,
  ID: 15,
} as const;

/** Longest keyed data block: its length has 24 bits. */
export const KEYED_SGL_BYTES_MAX = 0xffffff;

/** PSDT 01b in FLAGS: SGLs, metadata contiguous. Fabrics commands all say this. */
export const FLAGS_PSDT_SGL = 0x40;
export const FLAGS_PSDT_MASK = 0xc0;

export function setKeyedSgl(
  view: DataView,
  offset: number,
  address: number,
  length: number,
  key: number,
  invalidate: boolean,
): void {
  setU64LE(view, offset, address);
  view.setUint16(offset + SglOffset.KEYED_LENGTH, length & 0xffff, true);
  view.setUint8(offset + SglOffset.KEYED_LENGTH + 2, (length >>> 16) & 0xff);
  view.setUint32(offset + SglOffset.KEYED_KEY, key, true);
  view.setUint8(offset + SglOffset.ID, invalidate ? SglId.keyedInvalidate : SglId.keyed);
}

/** A data block or last segment whose address is an offset into the capsule. */
export function setOffsetSgl(
  view: DataView,
  offset: number,
  capsuleOffset: number,
  length: number,
  id: number,
): void {
  setU64LE(view, offset, capsuleOffset);
  view.setUint32(offset + SglOffset.LENGTH, length, true);
  view.setUint8(offset + 12, 0);
  view.setUint8(offset + 13, 0);
  view.setUint8(offset + 14, 0);
  view.setUint8(offset + SglOffset.ID, id);
}

/** A transport data block: `length` bytes, moved by the transport. */
export function setTransportSgl(view: DataView, offset: number, length: number): void {
  setOffsetSgl(view, offset, 0, length, SglId.transportData);
}
