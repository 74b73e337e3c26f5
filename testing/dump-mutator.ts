/**
 * Damages dumps the way the world does, and the way somebody would who wants to break the reader:
 * cuts, flipped bytes, lost and doubled pieces, huge numbers, pieces of other dumps. Seeded, so
 * that a failure replays.
 */

import type { Prng } from "../src/core/index.ts";

/** Texts that have broken parsers before. */
const NASTY = [
  "\0",
  "\r\n",
  "ffffffffffffffffffff",
  "-1",
  "4294967296",
  "99999999999999999999",
  "\u{10ffff}",
  "</object>",
  "<object>".repeat(300),
  "<!ENTITY a '&a;&a;'>",
  "&a;",
  '"',
  "[[[[[[",
  "\t\t\t\t",
  "0000:ff:1f.7",
  "constructor",
  "__proto__",
];

/** One damaged copy. `others` are dumps whose pieces may be put in. */
export function damage(bytes: Uint8Array, others: readonly Uint8Array[], prng: Prng): Uint8Array {
  let result = bytes;
  const times = 1 + prng.below(4);
  for (let n = 0; n < times; n++) result = damageOnce(result, others, prng);
  return result;
}

function damageOnce(bytes: Uint8Array, others: readonly Uint8Array[], prng: Prng): Uint8Array {
  const at = prng.below(bytes.length + 1);
  const length = 1 + prng.below(Math.min(2000, bytes.length + 1));
  const head = bytes.subarray(0, at);
  const tail = bytes.subarray(Math.min(bytes.length, at + length));
  switch (prng.below(8)) {
    case 0:
      return head.slice();
    case 1:
      return flipped(bytes, prng);
    case 2:
      return concat(head, tail);
    case 3:
      return concat(bytes.subarray(0, Math.min(bytes.length, at + length)), bytes.subarray(at));
    case 4:
      return concat(head, new TextEncoder().encode(prng.pick(NASTY)), bytes.subarray(at));
    case 5:
      return numbersChanged(bytes, at, prng);
    case 6: {
      const other = prng.pick(others);
      const from = prng.below(other.length + 1);
      return concat(head, other.subarray(from, from + length), tail);
    }
    default:
      return linesSwapped(bytes, at, prng);
  }
}

function flipped(bytes: Uint8Array, prng: Prng): Uint8Array {
  const copy = bytes.slice();
  const count = 1 + prng.below(8);
  for (let n = 0; n < count && copy.length > 0; n++) {
    copy[prng.below(copy.length)] = prng.chance(0.5) ? prng.below(256) : 0x30 + prng.below(10);
  }
  return copy;
}

/** Every digit in a stretch becomes another: sizes, offsets, bus numbers. */
function numbersChanged(bytes: Uint8Array, at: number, prng: Prng): Uint8Array {
  const copy = bytes.slice();
  for (let i = at; i < Math.min(copy.length, at + 200); i++) {
    if (copy[i] >= 0x30 && copy[i] <= 0x39) copy[i] = 0x30 + prng.below(10);
  }
  return copy;
}

function linesSwapped(bytes: Uint8Array, at: number, prng: Prng): Uint8Array {
  const lines = new TextDecoder("latin1").decode(bytes).split("\n");
  const line = Math.floor((at / (bytes.length + 1)) * lines.length);
  const other = prng.below(lines.length);
  [lines[line], lines[other]] = [lines[other], lines[line]];
  return Uint8Array.from(Buffer.from(lines.join("\n"), "latin1"));
}

function concat(...pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
