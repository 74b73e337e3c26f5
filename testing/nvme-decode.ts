/**
 * Naive decoders of NVMe data pointers: what a controller makes of the PRPs and SGLs in a command,
 * entry by entry, from memory given as a function. They check the rules that a controller may
 * check.
 */

import { SqeDword } from "../src/spec/nvme/index.ts";

/** Reads the dword at a DMA address. */
export type ReadDword = (address: number) => number;

export interface Piece {
  readonly address: number;
  readonly length: number;
}

const u64 = (lo: number, hi: number): number => (lo >>> 0) + (hi >>> 0) * 2 ** 32;

function demand(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

/** Pages of `length` bytes described by PRP1 and PRP2 of `sqe`. NVM Express Base 2.0, 4.1.1. */
export function decodePrps(
  sqe: Uint32Array,
  length: number,
  pageBytes: number,
  read: ReadDword,
): Piece[] {
  const prp1 = u64(sqe[SqeDword.prp1Lo], sqe[SqeDword.prp1Hi]);
  const prp2 = u64(sqe[SqeDword.prp2Lo], sqe[SqeDword.prp2Hi]);
  demand(prp1 % 4 === 0, "PRP1 is not dword aligned");
  const pieces: Piece[] = [];
  let left = length;
  const take = (address: number): void => {
    const bytes = Math.min(left, pageBytes - (address % pageBytes));
    pieces.push({ address, length: bytes });
    left -= bytes;
  };
  take(prp1);
  if (left === 0) {
    demand(prp2 === 0, "PRP2 is set and not needed");
    return pieces;
  }
  if (left <= pageBytes) {
    demand(prp2 % pageBytes === 0, "PRP2 starts inside a page");
    take(prp2);
    return pieces;
  }
  let entry = prp2;
  demand(entry % 8 === 0, "a PRP list is not 8-byte aligned");
  while (left > 0) {
    const value = u64(read(entry), read(entry + 4));
    const isLastSlot = (entry + 8) % pageBytes === 0;
    if (isLastSlot && left > pageBytes) {
      demand(value % pageBytes === 0, "a list pointer starts inside a page");
      entry = value;
      continue;
    }
    demand(value % pageBytes === 0, "a list entry starts inside a page");
    take(value);
    entry += 8;
  }
  return pieces;
}

/** Data blocks of the SGL in `sqe`. NVM Express Base 2.0, 4.1.2. */
export function decodeSgl(sqe: Uint32Array, read: ReadDword): Piece[] {
  const pieces: Piece[] = [];
  let type = sqe[SqeDword.sglType] >>> 28;
  let address = u64(sqe[SqeDword.sglAddressLo], sqe[SqeDword.sglAddressHi]);
  let length = sqe[SqeDword.sglLength];
  if (type === 0) return [{ address, length }];
  for (;;) {
    demand(type === 2 || type === 3, "the descriptor announces no segment");
    demand(length > 0 && length % 16 === 0, "a segment is not whole descriptors");
    const isLast = type === 3;
    const end = address + length;
    let next: Piece | null = null;
    let nextType = 0;
    for (let at = address; at < end; at += 16) {
      const piece = { address: u64(read(at), read(at + 4)), length: read(at + 8) };
      const kind = read(at + 12) >>> 28;
      if (kind === 0) {
        pieces.push(piece);
        continue;
      }
      demand(!isLast && at + 16 === end, "a segment descriptor is not the last of its segment");
      next = piece;
      nextType = kind;
    }
    if (isLast) return pieces;
    demand(next !== null, "a segment that is not the last names no next one");
    address = (next as Piece).address;
    length = (next as Piece).length;
    type = nextType;
  }
}

/** Pieces with touching neighbours joined. */
export function joinPieces(pieces: readonly Piece[]): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    if (last !== undefined && last.address + last.length === piece.address) {
      joined[joined.length - 1] = { address: last.address, length: last.length + piece.length };
    } else joined.push(piece);
  }
  return joined;
}
