/**
 * Protection information with a 16-bit guard (NVM Command Set 1.0, section 5.2.1.1; T10 DIF): eight
 * bytes, big-endian: guard, application tag, reference tag. The guard is the CRC-16 with polynomial
 * 8BB7h, initial value 0, not reflected.
 *
 * Computed eight bytes at a time from eight tables ("slicing by 8"). Left out: 32b and 64b guards
 * and storage tags (NVM Command Set 1.0, sections 5.2.1.2 and 5.2.1.3).
 */

import { assert } from "../../core/index.ts";

export const PI_BYTES = 8;
export const PiOffset = { guard: 0, appTag: 2, refTag: 4 } as const;

/** Protection Information Type: DPS bits 2:0. */
export const PiType = {
  none: 0,
  /** The reference tag is the low half of the LBA. */
  type1: 1,
  /** The reference tag starts at what the command says. */
  type2: 2,
  /** The reference tag is the application's own: never checked. */
  type3: 3,
} as const;

/** An application tag with this value turns checks off (type 3: with {@link REF_TAG_ESCAPE}). */
export const APP_TAG_ESCAPE = 0xffff;
export const REF_TAG_ESCAPE = 0xffff_ffff;

const POLYNOMIAL = 0x8bb7;
/** Table k: the CRC of a byte followed by k zero bytes. One array, for one bounds check. */
const TABLES = new Uint16Array(8 * 256);

for (let byte = 0; byte < 256; byte++) {
  let crc = byte << 8;
  for (let i = 0; i < 8; i++) crc = ((crc << 1) ^ ((crc & 0x8000) !== 0 ? POLYNOMIAL : 0)) & 0xffff;
  TABLES[byte] = crc;
}
for (let byte = 0; byte < 256; byte++) {
  let crc = TABLES[byte] as number;
  for (let k = 1; k < 8; k++) {
    crc = ((crc << 8) & 0xffff) ^ (TABLES[crc >> 8] as number);
    TABLES[k * 256 + byte] = crc;
  }
}

/** CRC-16 T10-DIF of a run of bytes, continued from `crc` (0 to start). */
export function crc16T10(bytes: Uint8Array, offset: number, length: number, crc = 0): number {
  assert(offset >= 0 && offset + length <= bytes.length, "a checksum stays inside its bytes");
  const t = TABLES;
  let at = offset;
  const end = offset + length;
  for (; at + 8 <= end; at += 8) {
    crc =
      (t[1792 + ((crc >> 8) ^ (bytes[at] as number))] as number) ^
      (t[1536 + ((crc & 0xff) ^ (bytes[at + 1] as number))] as number) ^
      (t[1280 + (bytes[at + 2] as number)] as number) ^
      (t[1024 + (bytes[at + 3] as number)] as number) ^
      (t[768 + (bytes[at + 4] as number)] as number) ^
      (t[512 + (bytes[at + 5] as number)] as number) ^
      (t[256 + (bytes[at + 6] as number)] as number) ^
      (t[bytes[at + 7] as number] as number);
  }
  for (; at < end; at++) {
    crc = ((crc << 8) & 0xffff) ^ (t[(crc >> 8) ^ (bytes[at] as number)] as number);
  }
  return crc;
}

export function getGuard(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
}

export function getAppTag(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset + 2] as number) << 8) | (bytes[offset + 3] as number);
}

export function getRefTag(bytes: Uint8Array, offset: number): number {
  return (
    (((bytes[offset + 4] as number) << 24) |
      ((bytes[offset + 5] as number) << 16) |
      ((bytes[offset + 6] as number) << 8) |
      (bytes[offset + 7] as number)) >>>
    0
  );
}

/** Writes the eight bytes. */
export function setPi(
  bytes: Uint8Array,
  offset: number,
  guard: number,
  appTag: number,
  refTag: number,
): void {
  bytes[offset] = guard >> 8;
  bytes[offset + 1] = guard;
  bytes[offset + 2] = appTag >> 8;
  bytes[offset + 3] = appTag;
  bytes[offset + 4] = refTag >>> 24;
  bytes[offset + 5] = refTag >>> 16;
  bytes[offset + 6] = refTag >>> 8;
  bytes[offset + 7] = refTag;
}

/**
 * Where protection information starts in the metadata of one block: its first 8 bytes (DPS bit 3)
 * or its last. The guard covers the block, and in the second case the metadata before it too.
 */
export function piOffsetInMetadata(metadataBytes: number, first: boolean): number {
  return first ? 0 : metadataBytes - PI_BYTES;
}
