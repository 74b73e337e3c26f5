/**
 * A bzip2 decoder. The packages that offer one hang on hostile input (a run of 32 RUNA symbols
 * overflows their 32-bit length and the copy loop never ends), and dumps come from strangers. Every
 * loop here consumes input or is bounded by the block size, output has a limit, both CRCs are
 * checked, and concatenated streams are read to the end.
 *
 * Leaves out: randomised blocks, which no compressor has written since bzip2 0.9.5 (1999).
 * Format: J. Seward's bzip2 1.0.8 manual and J. Tsai, "bzip2 compressed data format" (2016).
 */

/** Why the input is not a whole bzip2 file. */
export class Bzip2Error extends Error {}

/** The output would exceed the caller's limit. */
export class Bzip2LimitError extends Error {}

const BLOCK_MAGIC = 0x314159265359;
const END_MAGIC = 0x177245385090;
const GROUP_SYMBOLS = 50;
const CODE_BITS_MAX = 20;
const RUN_A = 0;
const RUN_B = 1;

/** Filled when the first file is decoded. */
const CRC_TABLE = new Uint32Array(256);

function fillCrcTable(): void {
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
    CRC_TABLE[byte] = crc >>> 0;
  }
}

class BitReader {
  readonly #bytes: Uint8Array;
  #position = 0;
  #held = 0;
  #heldBits = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Most significant bit first; at most 24 bits at once. */
  read(bits: number): number {
    while (this.#heldBits < bits) {
      if (this.#position >= this.#bytes.length) throw new Bzip2Error("it ends in the middle");
      this.#held = ((this.#held << 8) | this.#bytes[this.#position++]) >>> 0;
      this.#heldBits += 8;
    }
    this.#heldBits -= bits;
    const value = this.#held >>> this.#heldBits;
    this.#held &= (1 << this.#heldBits) - 1;
    return value;
  }

  read48(): number {
    return this.read(24) * 2 ** 24 + this.read(24);
  }

  read32(): number {
    return this.read(16) * 65536 + this.read(16);
  }

  /** Drops what is left of the current byte; true when nothing follows. */
  atEnd(): boolean {
    this.#heldBits -= this.#heldBits % 8;
    this.#held &= (1 << this.#heldBits) - 1;
    return this.#heldBits === 0 && this.#position >= this.#bytes.length;
  }
}

class Sink {
  #bytes: Uint8Array;
  length = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
    this.#bytes = new Uint8Array(Math.min(limit, 1024 * 1024));
  }

  push(byte: number, count: number): void {
    const end = this.length + count;
    if (end > this.#bytes.length) {
      if (end > this.#limit) throw new Bzip2LimitError("the output is larger than its limit");
      const larger = new Uint8Array(Math.min(this.#limit, Math.max(end, this.#bytes.length * 2)));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    if (count === 1) this.#bytes[this.length] = byte;
    else this.#bytes.fill(byte, this.length, end);
    this.length = end;
  }

  take(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}

/** A canonical Huffman code: `limit[n]` is the largest code of n bits, -1 when there is none. */
interface Code {
  readonly limit: Int32Array;
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
  readonly minBits: number;
}

function readCode(reader: BitReader, symbolCount: number): Code {
  const lengths = new Uint8Array(symbolCount);
  let bits = reader.read(5);
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    for (;;) {
      if (bits < 1 || bits > CODE_BITS_MAX) throw new Bzip2Error("a code length is out of range");
      if (reader.read(1) === 0) break;
      bits += reader.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = bits;
  }
  const counts = new Uint16Array(CODE_BITS_MAX + 2);
  for (const length of lengths) counts[length]++;
  const symbols = new Uint16Array(symbolCount);
  const limit = new Int32Array(CODE_BITS_MAX + 1).fill(-1);
  const base = new Int32Array(CODE_BITS_MAX + 1);
  let code = 0;
  let index = 0;
  let minBits = CODE_BITS_MAX;
  for (let length = 1; length <= CODE_BITS_MAX; length++) {
    code <<= 1;
    base[length] = index - code;
    if (counts[length] > 0) {
      minBits = Math.min(minBits, length);
      for (let s = 0; s < symbolCount; s++) if (lengths[s] === length) symbols[index++] = s;
      code += counts[length];
      limit[length] = code - 1;
    }
  }
  return { limit, base, symbols, minBits };
}

function readSymbol(reader: BitReader, code: Code): number {
  let value = reader.read(code.minBits);
  for (let bits = code.minBits; ; bits++) {
    if (value <= code.limit[bits]) {
      const index = value + code.base[bits];
      if (index < 0 || index >= code.symbols.length) break;
      return code.symbols[index];
    }
    if (bits === CODE_BITS_MAX) break;
    value = (value << 1) | reader.read(1);
  }
  throw new Bzip2Error("a code word has no meaning");
}

function readUsedBytes(reader: BitReader): Uint8Array {
  const used: number[] = [];
  const rows = reader.read(16);
  for (let row = 0; row < 16; row++) {
    if ((rows & (0x8000 >> row)) === 0) continue;
    const columns = reader.read(16);
    for (let column = 0; column < 16; column++) {
      if ((columns & (0x8000 >> column)) !== 0) used.push(row * 16 + column);
    }
  }
  if (used.length === 0) throw new Bzip2Error("a block uses no byte value");
  return Uint8Array.from(used);
}

function moveToFront(list: Uint8Array, index: number): number {
  const value = list[index];
  list.copyWithin(1, 0, index);
  list[0] = value;
  return value;
}

function readSelectors(reader: BitReader, groups: number): Uint8Array {
  const count = reader.read(15);
  if (count === 0) throw new Bzip2Error("a block has no selectors");
  const selectors = new Uint8Array(count);
  const order = Uint8Array.from({ length: groups }, (_, index) => index);
  for (let at = 0; at < count; at++) {
    let index = 0;
    while (reader.read(1) === 1) {
      if (++index >= groups) throw new Bzip2Error("a selector is out of range");
    }
    selectors[at] = moveToFront(order, index);
  }
  return selectors;
}

/** Huffman, run lengths and move-to-front undone: fills `block` and answers how much of it. */
function readSymbols(reader: BitReader, block: Uint32Array, counts: Uint32Array): number {
  const order = readUsedBytes(reader);
  const endSymbol = order.length + 1;
  const groups = reader.read(3);
  if (groups < 2 || groups > 6) throw new Bzip2Error("the number of codes is out of range");
  const selectors = readSelectors(reader, groups);
  const codes = Array.from({ length: groups }, () => readCode(reader, endSymbol + 1));
  let length = 0;
  let run = 0;
  let runBit = 1;
  let left = 0;
  let group = 0;
  let code = codes[0];
  for (;;) {
    if (left === 0) {
      if (group >= selectors.length) throw new Bzip2Error("a block has too few selectors");
      code = codes[selectors[group++]];
      left = GROUP_SYMBOLS;
    }
    left--;
    const symbol = readSymbol(reader, code);
    if (symbol === RUN_A || symbol === RUN_B) {
      run += runBit * (symbol + 1);
      runBit *= 2;
      // Also keeps runBit small: without it a long run would leave the exact integers.
      if (run > block.length) throw new Bzip2Error("a run is longer than its block");
      continue;
    }
    if (run > 0) {
      if (length + run > block.length) throw new Bzip2Error("a block is longer than it may be");
      block.fill(order[0], length, length + run);
      counts[order[0]] += run;
      length += run;
      run = 0;
      runBit = 1;
    }
    if (symbol === endSymbol) return length;
    if (length >= block.length) throw new Bzip2Error("a block is longer than it may be");
    const byte = moveToFront(order, symbol - 1);
    counts[byte]++;
    block[length++] = byte;
  }
}

/** Undoes the Burrows-Wheeler transform and the first run-length code; answers the block's CRC. */
function writeBlock(block: Uint32Array, length: number, origin: number, sink: Sink): number {
  let crc = 0xffffffff;
  let at = block[origin] >>> 8;
  let previous = -1;
  let repeats = 0;
  for (let done = 0; done < length; done++) {
    const word = block[at];
    const byte = word & 0xff;
    at = word >>> 8;
    let count = 1;
    let value = byte;
    if (repeats === 4) {
      count = byte;
      value = previous;
      repeats = 0;
      previous = -1;
    } else if (byte === previous) {
      repeats++;
    } else {
      repeats = 1;
      previous = byte;
    }
    if (count === 0) continue;
    sink.push(value, count);
    for (let n = 0; n < count; n++) crc = (crc << 8) ^ CRC_TABLE[((crc >>> 24) ^ value) & 0xff];
  }
  return ~crc >>> 0;
}

function readBlock(reader: BitReader, block: Uint32Array, sink: Sink): number {
  const expected = reader.read32();
  if (reader.read(1) === 1) throw new Bzip2Error("randomised blocks are not supported");
  const origin = reader.read(24);
  const counts = new Uint32Array(256);
  const length = readSymbols(reader, block, counts);
  if (origin >= length) throw new Bzip2Error("a block's origin is out of range");
  let sum = 0;
  for (let byte = 0; byte < 256; byte++) {
    const count = counts[byte];
    counts[byte] = sum;
    sum += count;
  }
  // The upper 24 bits of each word become the successor's index.
  for (let i = 0; i < length; i++) block[counts[block[i] & 0xff]++] |= i << 8;
  const crc = writeBlock(block, length, origin, sink);
  if (crc !== expected) throw new Bzip2Error("a block's checksum is wrong");
  return crc;
}

/** Decodes all streams of a bzip2 file. Throws {@link Bzip2Error} or {@link Bzip2LimitError}. */
export function decodeBzip2(bytes: Uint8Array, limit: number): Uint8Array {
  const reader = new BitReader(bytes);
  const sink = new Sink(limit);
  fillCrcTable();
  do {
    if (reader.read(24) !== 0x425a68) throw new Bzip2Error("a stream does not begin with BZh");
    const level = reader.read(8) - 0x30;
    if (level < 1 || level > 9) throw new Bzip2Error("the block size is out of range");
    const block = new Uint32Array(level * 100_000);
    let streamCrc = 0;
    for (;;) {
      const magic = reader.read48();
      if (magic === END_MAGIC) break;
      if (magic !== BLOCK_MAGIC) throw new Bzip2Error("a block begins with wrong bytes");
      const crc = readBlock(reader, block, sink);
      streamCrc = (((streamCrc << 1) | (streamCrc >>> 31)) ^ crc) >>> 0;
    }
    if (reader.read32() !== streamCrc) throw new Bzip2Error("the checksum is wrong");
  } while (!reader.atEnd());
  return sink.take();
}
