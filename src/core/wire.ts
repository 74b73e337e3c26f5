/**
 * Little- and big-endian access to 64-bit wire fields as numbers below 2^53, and the helpers around
 * DataView that every wire structure uses. DataView is as fast as a typed array and does not care
 * about alignment (NVMe and PCIe are little-endian, InfiniBand and RoCE big-endian).
 */

const TWO_32 = 2 ** 32;

/** Low and high half of a 64-bit register, for registers that do not fit a number. */
export interface U64 {
  lo: number;
  hi: number;
}

export function setU64LE(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

/** Values of 2^53 and above lose their low bits: check {@link fitsNumber} where that can be. */
export function getU64LE(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_32;
}

export function setU64BE(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, Math.floor(value / TWO_32), false);
  view.setUint32(offset + 4, value >>> 0, false);
}

export function getU64BE(view: DataView, offset: number): number {
  return view.getUint32(offset, false) * TWO_32 + view.getUint32(offset + 4, false);
}

/** True when a 64-bit value with this high half is exact in a number. */
export const fitsNumber = (hi: number): boolean => hi < 2 ** 21;

export const lowHalf = (value: number): number => value >>> 0;
export const highHalf = (value: number): number => Math.floor(value / TWO_32);
export const joinHalves = (lo: number, hi: number): number => (lo >>> 0) + (hi >>> 0) * TWO_32;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes text padded with `pad` (NVMe pads with spaces), cut to `length` bytes. ASCII only. */
export function setAscii(
  bytes: Uint8Array,
  offset: number,
  length: number,
  text: string,
  pad = 0x20,
): void {
  for (let i = 0; i < length; i++) {
    bytes[offset + i] = i < text.length ? text.charCodeAt(i) & 0x7f : pad;
  }
}

/** Reads text up to a NUL or `length`, without trailing spaces. */
export function getAscii(bytes: Uint8Array, offset: number, length: number): string {
  let text = "";
  for (let i = 0; i < length && bytes[offset + i] !== 0; i++) {
    text += String.fromCharCode(bytes[offset + i] as number);
  }
  return text.trimEnd();
}

/** As long and with the same bytes. For what is no secret: it takes less time where they differ. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
