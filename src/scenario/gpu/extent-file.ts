/**
 * A file as what a file system would tell of it: a list of extents on a namespace. Reading it is
 * turning ranges of the file into ranges of the device; there is no directory, no cache, and
 * nothing between the extents belongs to it.
 *
 * Invariants: extents do not overlap and lie inside the namespace; the pieces of a range are in the
 * file's order and add up to it.
 */

import { UsageError } from "../../core/index.ts";

/** In blocks of the namespace. */
export interface Extent {
  readonly block: number;
  readonly blocks: number;
}

/** A run of bytes that is contiguous on the device. */
export interface FilePiece {
  /** In the file. */
  readonly offset: number;
  /** On the device, in bytes. */
  readonly at: number;
  readonly length: number;
}

export class ExtentFile {
  readonly sizeBytes: number;
  private readonly extents: readonly FilePiece[];

  /** Throws `bad-extents` when they overlap or leave the namespace. */
  constructor(extents: readonly Extent[], blockBytes: number, namespaceBytes: number) {
    let offset = 0;
    this.extents = extents.map(({ block, blocks }) => {
      const piece = { offset, at: block * blockBytes, length: blocks * blockBytes };
      offset += piece.length;
      return piece;
    });
    this.sizeBytes = offset;
    const sorted = [...this.extents].sort((a, b) => a.at - b.at);
    sorted.forEach(({ at, length }, i) => {
      const before = sorted[i - 1];
      const overlaps = before !== undefined && before.at + before.length > at;
      if (!overlaps && at + length <= namespaceBytes) return;
      throw new UsageError("bad-extents", `the extent at block ${at / blockBytes} cannot be`, {
        remedy: overlaps
          ? "let no two extents of a file overlap"
          : "stay inside the namespace, or make namespace.size larger",
        details: { at, length, namespaceBytes },
      });
    });
  }

  /** What a range of the file is on the device. The range must lie inside the file. */
  pieces(offset: number, length: number): FilePiece[] {
    const found: FilePiece[] = [];
    const end = offset + length;
    for (const extent of this.extents) {
      const from = Math.max(offset, extent.offset);
      const to = Math.min(end, extent.offset + extent.length);
      if (from >= to) continue;
      found.push({ offset: from, at: extent.at + (from - extent.offset), length: to - from });
    }
    return found;
  }

  /** The whole file in requests of `requestBytes`, each in its pieces. */
  requests(requestBytes: number): FilePiece[] {
    const all: FilePiece[] = [];
    for (let at = 0; at < this.sizeBytes; at += requestBytes) {
      all.push(...this.pieces(at, Math.min(requestBytes, this.sizeBytes - at)));
    }
    return all;
  }
}
