/**
 * Builds SGL descriptors from DMA segments (NVM Express Base 2.0, section 4.1.2). One segment is a
 * data block in the entry itself. More go to a list: the entry's descriptor announces the first
 * array, and the last descriptor of a full array announces the next, `Last Segment` being the final
 * one.
 *
 * Leaves out: bit buckets, offset addressing (the CMB is addressed by its bus address).
 */

import type { SegmentList } from "../dma/index.ts";
import { packSglTypeDword, SGL_BYTES, SglType, SqeDword } from "../spec/nvme/index.ts";

const TWO_32 = 2 ** 32;
const DATA_BLOCK = packSglTypeDword(SglType.dataBlock, 0);
const SEGMENT = packSglTypeDword(SglType.segment, 0);
const LAST_SEGMENT = packSglTypeDword(SglType.lastSegment, 0);
/** Dwords of one descriptor. */
const DWORDS = SGL_BYTES / 4;

/** Refused by {@link buildSgl}: more descriptors than list pages hold. */
export const SGL_IMPOSSIBLE = -1;

/** List pages that `segments` data blocks need; a single one goes in the entry. */
export function sglListPages(segments: number, pageBytes: number): number {
  if (segments <= 1) return 0;
  const slots = pageBytes / SGL_BYTES;
  return segments <= slots ? 1 : Math.ceil((segments - 1) / (slots - 1));
}

function put(words: Uint32Array, at: number, address: number, length: number, type: number): void {
  words[at] = address;
  words[at + 1] = address / TWO_32;
  words[at + 2] = length;
  words[at + 3] = type;
}

/**
 * Writes SGL1 into the entry at dword `sqeAt`, and arrays into the pages at dword `listAt` of
 * `list`, which the controller sees at `listDma` and which are contiguous. Returns the list pages
 * used, or {@link SGL_IMPOSSIBLE}.
 */
export function buildSgl(
  segments: SegmentList,
  pageBytes: number,
  sqe: Uint32Array,
  sqeAt: number,
  list: Uint32Array,
  listAt: number,
  listDma: number,
  listPages: number,
): number {
  const { addr, len, count } = segments;
  const entry = sqeAt + SqeDword.sglAddressLo;
  if (count === 1) {
    put(sqe, entry, addr[0], len[0], DATA_BLOCK);
    return 0;
  }
  const pages = sglListPages(count, pageBytes);
  if (pages > listPages) return SGL_IMPOSSIBLE;
  const slots = pageBytes / SGL_BYTES;
  announce(sqe, entry, listDma, count, slots);
  let at = listAt;
  let slot = 0;
  let nextList = listDma + pageBytes;
  for (let i = 0; i < count; i++) {
    if (slot === slots - 1 && count - i > 1) {
      announce(list, at, nextList, count - i, slots);
      at += DWORDS;
      slot = 0;
      nextList += pageBytes;
    }
    put(list, at, addr[i], len[i], DATA_BLOCK);
    at += DWORDS;
    slot++;
  }
  return pages;
}

/** Writes the descriptor of an array that starts at `address`, with `left` data blocks to come. */
function announce(
  words: Uint32Array,
  at: number,
  address: number,
  left: number,
  slots: number,
): void {
  if (left <= slots) put(words, at, address, left * SGL_BYTES, LAST_SEGMENT);
  else put(words, at, address, slots * SGL_BYTES, SEGMENT);
}
