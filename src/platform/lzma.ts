/**
 * The LZMA decoder inside LZMA2, which is what .xz files hold: a range decoder, its probabilities,
 * and the matches it copies from the output itself, which serves as the dictionary.
 *
 * Invariants: every step consumes input or is bounded by the length of one match; output never
 * exceeds what a chunk announced; distances reach no further back than the last dictionary reset.
 * Format: I. Pavlov's LZMA specification (2015-06-14, LZMA SDK, public domain).
 */

/** Why the input is not a whole xz file. */
export class XzError extends Error {}

/** The output would exceed the caller's limit. */
export class XzLimitError extends Error {}

const STATES = 12;
const POSITION_STATES = 16;
const LENGTH_CODER = 2 + 2 * POSITION_STATES * 8 + 256;
const LITERAL_CODER = 0x300;
const ONE_HALF = 1024;

/** Where each group of probabilities begins. */
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POSITION_STATES;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POSITION_SLOT = IS_REP0_LONG + STATES * POSITION_STATES;
const POSITION_SPECIAL = POSITION_SLOT + 4 * 64;
const ALIGN = POSITION_SPECIAL + 115;
const MATCH_LENGTH = ALIGN + 16;
const REP_LENGTH = MATCH_LENGTH + LENGTH_CODER;
const LITERAL = REP_LENGTH + LENGTH_CODER;

/** Output that grows up to a limit; what was written can be copied from. */
export class Window {
  bytes: Uint8Array;
  length = 0;
  /** Where the dictionary begins. */
  start = 0;
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
    this.bytes = new Uint8Array(Math.min(limit, 1024 * 1024));
  }

  /** Makes room for `count` more bytes. Throws {@link XzLimitError}. */
  reserve(count: number): void {
    const end = this.length + count;
    if (end > this.limit) throw new XzLimitError("the output is larger than its limit");
    if (end <= this.bytes.length) return;
    const larger = new Uint8Array(Math.min(this.limit, Math.max(end, this.bytes.length * 2)));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

export class LzmaDecoder {
  private readonly window: Window;
  private readonly input: Uint8Array;
  private at = 0;
  private end = 0;
  private range = 0;
  private code = 0;
  private probabilities = new Uint16Array(LITERAL + LITERAL_CODER);
  private state = 0;
  private readonly reps = new Float64Array(4);
  private literalContextBits = 0;
  private literalPositionMask = 0;
  private positionMask = 0;

  constructor(input: Uint8Array, window: Window) {
    this.input = input;
    this.window = window;
  }

  /** Sets the three parameters from their byte, and resets the state. */
  setProperties(byte: number): void {
    const lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    const pb = Math.floor(byte / 45);
    if (pb > 4 || lc + lp > 4) throw new XzError("a chunk has parameters that cannot be");
    this.literalContextBits = lc;
    this.literalPositionMask = 2 ** lp - 1;
    this.positionMask = 2 ** pb - 1;
    this.probabilities = new Uint16Array(LITERAL + LITERAL_CODER * 2 ** (lc + lp));
    this.resetState();
  }

  resetState(): void {
    this.probabilities.fill(ONE_HALF);
    this.state = 0;
    this.reps.fill(0);
  }

  /** Decodes one chunk: `size` bytes of output from the input in [start, end). */
  decode(start: number, end: number, size: number): void {
    if (end - start < 5 || end > this.input.length) throw new XzError("it ends in the middle");
    this.window.reserve(size);
    this.at = start + 1;
    this.end = end;
    this.range = 0xffff_ffff;
    this.code = 0;
    for (let i = 0; i < 4; i++) this.code = ((this.code << 8) | this.input[this.at++]) >>> 0;
    const stop = this.window.length + size;
    while (this.window.length < stop) this.step(stop);
    this.normalize();
    if (this.at !== end || this.input[start] !== 0) throw new XzError("a chunk has another size");
  }

  /** One literal or one match. */
  private step(stop: number): void {
    const { window, state } = this;
    const position = (window.length - window.start) & this.positionMask;
    if (this.bit(IS_MATCH + state * POSITION_STATES + position) === 0) {
      this.literal();
      return;
    }
    let length: number;
    if (this.bit(IS_REP + state) === 0) {
      this.reps.copyWithin(1, 0, 3);
      length = this.length(MATCH_LENGTH, position);
      this.reps[0] = this.distance(length);
      this.state = state < 7 ? 7 : 10;
    } else {
      length = this.repeated(position);
    }
    this.copy(length, stop);
  }

  private copy(length: number, stop: number): void {
    const { window } = this;
    const distance = (this.reps[0] as number) + 1;
    const from = window.length - distance;
    if (from < window.start) throw new XzError("a match begins before the data");
    if (window.length + length > stop) throw new XzError("a match reaches beyond its chunk");
    const { bytes } = window;
    let to = window.length;
    for (let i = 0; i < length; i++, to++) bytes[to] = bytes[to - distance];
    window.length = to;
  }

  /** A match by one of the last four distances; its length. */
  private repeated(position: number): number {
    const { state, reps } = this;
    if (this.bit(IS_REP_G0 + state) === 0) {
      if (this.bit(IS_REP0_LONG + state * POSITION_STATES + position) === 0) {
        this.state = state < 7 ? 9 : 11;
        return 1;
      }
    } else {
      let index = 1;
      if (this.bit(IS_REP_G1 + state) === 1) index = 2 + this.bit(IS_REP_G2 + state);
      const distance = reps[index];
      reps.copyWithin(1, 0, index);
      reps[0] = distance;
    }
    const length = this.length(REP_LENGTH, position);
    this.state = state < 7 ? 8 : 11;
    return length;
  }

  private literal(): void {
    const { window, state } = this;
    const { bytes, length } = window;
    const before = length > window.start ? bytes[length - 1] : 0;
    const low = (length - window.start) & this.literalPositionMask;
    const context = low * 2 ** this.literalContextBits + (before >> (8 - this.literalContextBits));
    const base = LITERAL + LITERAL_CODER * context;
    let symbol = 1;
    if (state >= 7) {
      const from = length - (this.reps[0] as number) - 1;
      if (from < window.start) throw new XzError("a literal refers to before the data");
      let match = bytes[from] as number;
      while (symbol < 0x100) {
        const matchBit = (match >> 7) & 1;
        match <<= 1;
        const bit = this.bit(base + ((1 + matchBit) << 8) + symbol);
        symbol = symbol * 2 + bit;
        if (bit !== matchBit) break;
      }
    }
    while (symbol < 0x100) symbol = symbol * 2 + this.bit(base + symbol);
    bytes[length] = symbol;
    window.length = length + 1;
    this.state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
  }

  private length(coder: number, position: number): number {
    if (this.bit(coder) === 0) return 2 + this.tree(coder + 2 + position * 8, 3);
    const middle = coder + 2 + POSITION_STATES * 8;
    if (this.bit(coder + 1) === 0) return 10 + this.tree(middle + position * 8, 3);
    return 18 + this.tree(middle + POSITION_STATES * 8, 8);
  }

  private distance(length: number): number {
    const slot = this.tree(POSITION_SLOT + Math.min(length - 2, 3) * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return base + this.reverseTree(POSITION_SPECIAL + base - slot - 1, bits);
    let direct = 0;
    for (let i = bits - 4; i > 0; i--) {
      this.normalize();
      this.range >>>= 1;
      const isOne = this.code >= this.range;
      if (isOne) this.code = (this.code - this.range) >>> 0;
      direct = direct * 2 + (isOne ? 1 : 0);
    }
    return base + direct * 16 + this.reverseTree(ALIGN - 1, 4);
  }

  private tree(base: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = symbol * 2 + this.bit(base + symbol);
    return symbol - 2 ** bits;
  }

  /** `base + 1` is the first probability. */
  private reverseTree(base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(base + symbol);
      symbol = symbol * 2 + bit;
      value += bit * 2 ** i;
    }
    return value;
  }

  private bit(index: number): number {
    this.normalize();
    const probability = this.probabilities[index] as number;
    const bound = (this.range >>> 11) * probability;
    if (this.code < bound) {
      this.range = bound;
      this.probabilities[index] = probability + ((2048 - probability) >> 5);
      return 0;
    }
    this.range -= bound;
    this.code -= bound;
    this.probabilities[index] = probability - (probability >> 5);
    return 1;
  }

  private normalize(): void {
    if (this.range >= 0x100_0000) return;
    if (this.at >= this.end) throw new XzError("a chunk ends in the middle");
    this.range = (this.range << 8) >>> 0;
    this.code = ((this.code << 8) | (this.input[this.at++] as number)) >>> 0;
  }
}
