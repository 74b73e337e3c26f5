/**
 * CRC32C (Castagnoli): the digest of NVMe/TCP, iSCSI and others. RFC 3720, appendix B.4; the
 * polynomial is 1EDC6F41h, reflected, start and final XOR all ones. The check value of
 * "123456789" is E3069283h.
 *
 * Eight tables, so that one step takes in eight bytes. Leaves out: the CPU's own instruction, which
 * JavaScript does not reach.
 */

const REFLECTED = 0x82f63b78;
const SLICES = 8;
/** From here on reading words through a view takes a third less, making it included. */
const VIEW_BYTES_MIN = 512;

const TABLES = makeTables();
const T0 = TABLES.subarray(0, 256);
const T1 = TABLES.subarray(256, 512);
const T2 = TABLES.subarray(512, 768);
const T3 = TABLES.subarray(768, 1024);
const T4 = TABLES.subarray(1024, 1280);
const T5 = TABLES.subarray(1280, 1536);
const T6 = TABLES.subarray(1536, 1792);
const T7 = TABLES.subarray(1792, 2048);

function makeTables(): Int32Array {
  const tables = new Int32Array(256 * SLICES);
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ REFLECTED : crc >>> 1;
    tables[i] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256];
    tables[i] = (before >>> 8) ^ tables[before & 0xff];
  }
  return tables;
}

/** What {@link crc32cUpdate} starts from. */
export const CRC32C_START = -1;

/** Takes in `length` bytes. Start with {@link CRC32C_START}, end with {@link crc32cFinish}. */
export function crc32cUpdate(
  crc: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
): number {
  let state = crc | 0;
  let at = offset;
  const end = offset + length;
  if (length >= VIEW_BYTES_MIN) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, length);
    const whole = length - (length % SLICES);
    state = update8(state, view, whole);
    at += whole;
  }
  for (; end - at >= SLICES; at += SLICES) {
    state ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    state =
      T7[state & 0xff] ^
      T6[(state >>> 8) & 0xff] ^
      T5[(state >>> 16) & 0xff] ^
      T4[state >>> 24] ^
      T3[bytes[at + 4]] ^
      T2[bytes[at + 5]] ^
      T1[bytes[at + 6]] ^
      T0[bytes[at + 7]];
  }
  for (; at < end; at++) state = (state >>> 8) ^ T0[(state ^ bytes[at]) & 0xff];
  return state;
}

/** The first `length` bytes of a view, a multiple of eight: two words a step. */
function update8(crc: number, view: DataView, length: number): number {
  let state = crc;
  for (let at = 0; at < length; at += SLICES) {
    const low = state ^ view.getInt32(at, true);
    const high = view.getInt32(at + 4, true);
    state =
      T7[low & 0xff] ^
      T6[(low >>> 8) & 0xff] ^
      T5[(low >>> 16) & 0xff] ^
      T4[low >>> 24] ^
      T3[high & 0xff] ^
      T2[(high >>> 8) & 0xff] ^
      T1[(high >>> 16) & 0xff] ^
      T0[high >>> 24];
  }
  return state;
}

/** The digest, as an unsigned 32-bit number; stored little-endian on the wire. */
export const crc32cFinish = (crc: number): number => ~crc >>> 0;

/** Digest of `length` bytes at `offset`. */
export function crc32c(bytes: Uint8Array, offset = 0, length = bytes.length - offset): number {
  return crc32cFinish(crc32cUpdate(CRC32C_START, bytes, offset, length));
}
