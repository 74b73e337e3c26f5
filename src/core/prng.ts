/**
 * Seeded randomness: xoshiro128** (Blackman and Vigna, 2018) seeded through splitmix32. Every
 * random choice of a run draws from one of these, so one seed replays the run. Not for secrets.
 */

import { assert } from "./assert.ts";

const rotl = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

export class Prng {
  readonly seed: number;
  private readonly s = new Uint32Array(4);

  constructor(seed: number) {
    this.seed = seed >>> 0;
    let state = this.seed;
    for (let i = 0; i < 4; i++) {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.s[i] = (z ^ (z >>> 15)) >>> 0;
    }
  }

  /** Uniform in [0, 2^32). */
  u32(): number {
    const s = this.s;
    const result = Math.imul(rotl(Math.imul(s[1] as number, 5), 7), 9) >>> 0;
    const t = (s[1] as number) << 9;
    s[2] = (s[2] as number) ^ (s[0] as number);
    s[3] = (s[3] as number) ^ (s[1] as number);
    s[1] = (s[1] as number) ^ (s[2] as number);
    s[0] = (s[0] as number) ^ (s[3] as number);
    s[2] = (s[2] as number) ^ t;
    s[3] = rotl(s[3] as number, 11);
    return result;
  }

  /** Uniform integer in [0, bound). `bound` is at most 2^32. */
  below(bound: number): number {
    assert(bound > 0 && bound <= 2 ** 32, "Prng.below needs a bound in (0, 2^32]");
    // The bias is below bound / 2^53 because two draws make a 53-bit fraction.
    const fraction = (this.u32() * 2 ** 21 + (this.u32() >>> 11)) / 2 ** 53;
    return Math.floor(fraction * bound);
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32;
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, "Prng.pick needs something to pick from");
    return items[this.below(items.length)] as T;
  }

  fill(bytes: Uint8Array): void {
    let i = 0;
    for (; i + 4 <= bytes.length; i += 4) {
      const word = this.u32();
      bytes[i] = word;
      bytes[i + 1] = word >>> 8;
      bytes[i + 2] = word >>> 16;
      bytes[i + 3] = word >>> 24;
    }
    for (; i < bytes.length; i++) bytes[i] = this.u32();
  }

  /** An independent stream: give each part of a run its own, so that adding draws to one part
   * does not change another. */
  fork(): Prng {
    return new Prng(this.u32());
  }
}
