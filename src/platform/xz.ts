/**
 * An .xz decoder: the container, LZMA2's chunks, and the checks. Dumps come packed so (sosreport's
 * .tar.xz), Node has no decoder, and packages are native or hang on hostile input.
 *
 * Invariants: output has a limit; sizes in headers and index must agree with what is there; CRC32,
 * CRC64 and SHA-256 are checked; concatenated streams are read to the end.
 * Leaves out: filters besides LZMA2 (BCJ and delta, which `tar -J` does not use).
 * Format: the .xz file format 1.2.1 (tukaani.org, public domain).
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { LzmaDecoder, Window, XzError, XzLimitError } from "./lzma.ts";

export { XzError, XzLimitError };

const STREAM_HEADER_BYTES = 12;
const LZMA2 = 0x21;
/** Bytes of the check, by its number; others are reserved. */
const CHECK_BYTES: Readonly<Record<number, number>> = { 0: 0, 1: 4, 4: 8, 10: 32 };

/** Reads the container from front to back. */
class Reader {
  readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  byte(): number {
    if (this.at >= this.bytes.length) throw new XzError("it ends in the middle");
    return this.bytes[this.at++] as number;
  }

  take(count: number): Uint8Array {
    if (this.at + count > this.bytes.length) throw new XzError("it ends in the middle");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  u16be(): number {
    return this.byte() * 256 + this.byte();
  }

  u32le(): number {
    const [a, b, c, d] = this.take(4) as unknown as [number, number, number, number];
    return a + b * 256 + c * 65_536 + d * 16_777_216;
  }

  /** Seven bits per byte, least significant first. */
  varint(): number {
    let value = 0;
    for (let i = 0; i < 9; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
    }
    throw new XzError("a number in it is too large");
  }

  /** Zeros up to a multiple of four from `start`. */
  pad(start: number): void {
    while ((this.at - start) % 4 !== 0) {
      if (this.byte() !== 0) throw new XzError("padding is not zero");
    }
  }
}

/** Decodes all streams. Throws {@link XzError}, XzLimitError. */
export function decodeXz(bytes: Uint8Array, limit: number): Uint8Array {
  const reader = new Reader(bytes);
  const window = new Window(limit);
  do {
    readStream(reader, window);
    // Streams may be followed by zeros, four at a time.
    while (bytes.length - reader.at >= 4 && bytes[reader.at] === 0) {
      if (reader.u32le() !== 0) throw new XzError("padding is not zero");
    }
  } while (reader.at < bytes.length);
  return window.bytes.subarray(0, window.length);
}

interface BlockSizes {
  readonly unpadded: number;
  readonly uncompressed: number;
}

function readStream(reader: Reader, window: Window): void {
  const start = reader.at;
  const header = reader.take(STREAM_HEADER_BYTES - 4);
  const isXz = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0].every((byte, i) => header[i] === byte);
  if (!isXz || header[6] !== 0) throw new XzError("a stream does not begin with its magic");
  const check = header[7] as number;
  const checkBytes = CHECK_BYTES[check];
  if (checkBytes === undefined) throw new XzError(`its check ${check} is not known`);
  if (reader.u32le() !== crc32(reader.bytes.subarray(start + 6, start + 8))) {
    throw new XzError("the header's checksum is wrong");
  }
  const blocks: BlockSizes[] = [];
  while (reader.bytes[reader.at] !== 0) blocks.push(readBlock(reader, window, check, checkBytes));
  const indexAt = reader.at;
  readIndex(reader, blocks);
  const indexBytes = reader.at - indexAt;
  const footerCrc = reader.u32le();
  const footer = reader.take(6);
  const backward =
    ((footer[0] | (footer[1] << 8) | (footer[2] << 16)) + footer[3] * 2 ** 24 + 1) * 4;
  const isFooter = reader.byte() === 0x59 && reader.byte() === 0x5a;
  if (!isFooter || footerCrc !== crc32(footer) || backward !== indexBytes || footer[5] !== check) {
    throw new XzError("a stream's footer is wrong");
  }
}

function readIndex(reader: Reader, blocks: readonly BlockSizes[]): void {
  const start = reader.at;
  reader.byte();
  if (reader.varint() !== blocks.length) throw new XzError("the index has other blocks");
  for (const { unpadded, uncompressed } of blocks) {
    if (reader.varint() !== unpadded || reader.varint() !== uncompressed) {
      throw new XzError("the index has other sizes");
    }
  }
  reader.pad(start);
  const found = crc32(reader.bytes.subarray(start, reader.at));
  if (reader.u32le() !== found) throw new XzError("the index's checksum is wrong");
}

function readBlock(reader: Reader, window: Window, check: number, checkBytes: number): BlockSizes {
  const start = reader.at;
  const announced = readBlockHeader(reader);
  const dataAt = reader.at;
  const outputAt = window.length;
  readChunks(reader, window);
  const compressed = reader.at - dataAt;
  const uncompressed = window.length - outputAt;
  if (
    (announced.compressed ?? compressed) !== compressed ||
    (announced.uncompressed ?? uncompressed) !== uncompressed
  ) {
    throw new XzError("a block has another size than its header says");
  }
  const unpadded = reader.at - start + checkBytes;
  reader.pad(dataAt);
  const expected = reader.take(checkBytes);
  const found = checkOf(check, window.bytes.subarray(outputAt, window.length));
  if (!found.every((byte, i) => byte === expected[i])) {
    throw new XzError("a block's checksum is wrong");
  }
  return { unpadded, uncompressed };
}

function readBlockHeader(reader: Reader) {
  const start = reader.at;
  const size = (reader.byte() + 1) * 4;
  const flags = reader.byte();
  if ((flags & 0x3f) !== 0) throw new XzError("it uses a filter that is not read (BCJ or delta)");
  const compressed = (flags & 0x40) === 0 ? null : reader.varint();
  const uncompressed = (flags & 0x80) === 0 ? null : reader.varint();
  if (reader.varint() !== LZMA2 || reader.varint() !== 1) {
    throw new XzError("it uses a filter that is not read");
  }
  reader.byte();
  const padding = start + size - 4 - reader.at;
  if (padding < 0 || !reader.take(padding).every((byte) => byte === 0)) {
    throw new XzError("a block's header is wrong");
  }
  const found = crc32(reader.bytes.subarray(start, reader.at));
  if (reader.u32le() !== found) throw new XzError("a block header's checksum is wrong");
  return { compressed, uncompressed };
}

/** LZMA2: chunks up to a zero byte. */
function readChunks(reader: Reader, window: Window): void {
  const decoder = new LzmaDecoder(reader.bytes, window);
  let needsDictionary = true;
  let needsProperties = true;
  for (;;) {
    const control = reader.byte();
    if (control === 0) return;
    const resetsDictionary = control === 1 || control >= 0xe0;
    if (resetsDictionary) window.start = window.length;
    else if (needsDictionary) throw new XzError("the first chunk must reset the dictionary");
    needsDictionary = false;
    if (control < 0x80) {
      if (control > 2) throw new XzError("a chunk of no kind that there is");
      const size = reader.u16be() + 1;
      window.reserve(size);
      window.bytes.set(reader.take(size), window.length);
      window.length += size;
      continue;
    }
    const size = (control & 0x1f) * 65_536 + reader.u16be() + 1;
    const packed = reader.u16be() + 1;
    const reset = (control >> 5) & 3;
    if (reset >= 2) decoder.setProperties(reader.byte());
    else if (needsProperties) throw new XzError("the first chunk must say its parameters");
    else if (reset === 1) decoder.resetState();
    needsProperties = false;
    const start = reader.at;
    reader.take(packed);
    decoder.decode(start, reader.at, size);
  }
}

function checkOf(check: number, data: Uint8Array): Uint8Array {
  if (check === 1) return littleEndian(crc32(data), 0, 4);
  if (check === 4) {
    const [low, high] = crc64(data);
    return littleEndian(low, high, 8);
  }
  return check === 10 ? createHash("sha256").update(data).digest() : new Uint8Array(0);
}

function littleEndian(low: number, high: number, count: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, low, true);
  new DataView(bytes.buffer).setUint32(4, high, true);
  return bytes.subarray(0, count);
}

/** ECMA-182, reflected; low and high half. */
function crc64(data: Uint8Array): [number, number] {
  const lows = new Uint32Array(256);
  const highs = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let [low, high] = [byte, 0];
    for (let bit = 0; bit < 8; bit++) {
      const carry = low & 1;
      low = ((low >>> 1) | (high << 31)) >>> 0;
      high >>>= 1;
      if (carry === 1) {
        low = (low ^ 0xd787_0f42) >>> 0;
        high = (high ^ 0xc96c_5795) >>> 0;
      }
    }
    lows[byte] = low;
    highs[byte] = high;
  }
  let low = 0xffff_ffff;
  let high = 0xffff_ffff;
  for (const byte of data) {
    const entry = (low ^ byte) & 0xff;
    low = (((low >>> 8) | (high << 24)) ^ (lows[entry] as number)) >>> 0;
    high = ((high >>> 8) ^ (highs[entry] as number)) >>> 0;
  }
  return [~low >>> 0, ~high >>> 0];
}
