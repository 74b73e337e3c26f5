/**
 * Builds PRP entries and lists from DMA segments (NVM Express Base 2.0, section 4.1.1).
 *
 * PRP1 is the first byte, at any dword. Two pages: PRP2 is the second page. More: PRP2 points to a
 * list; a full list page that is not the last one ends with a pointer to the next.
 *
 * Invariant: no segment but the first starts inside a page, none but the last ends inside one. The
 * block layer splits at such gaps (`virtBoundary`); what comes through anyway is refused here.
 */

import type { SegmentList } from "../dma/index.ts";
import { PRP_BYTES, SqeDword } from "../spec/nvme/index.ts";

const TWO_32 = 2 ** 32;

/**
 * Refused by {@link buildPrps}: a gap, an address that is not dword aligned, or lists too short.
 */
export const PRP_IMPOSSIBLE = -1;

/** List pages that `entries` PRP entries behind PRP1 need; a single one goes in PRP2. */
export function prpListPages(entries: number, pageBytes: number): number {
  if (entries <= 1) return 0;
  const slots = pageBytes / PRP_BYTES;
  return entries <= slots ? 1 : Math.ceil((entries - 1) / (slots - 1));
}

/** Entries, PRP1 included, that `segments` need, or {@link PRP_IMPOSSIBLE}. */
export function countPrps(segments: SegmentList, pageBytes: number): number {
  const mask = pageBytes - 1;
  const last = segments.count - 1;
  let entries = 0;
  for (let i = 0; i <= last; i++) {
    const offset = segments.addr[i] & mask;
    const end = offset + segments.len[i];
    if (i === 0 ? (offset & 3) !== 0 : offset !== 0) return PRP_IMPOSSIBLE;
    if (i < last && (end & mask) !== 0) return PRP_IMPOSSIBLE;
    entries += Math.ceil(end / pageBytes);
  }
  return entries;
}

/**
 * Writes PRP1 and PRP2 into the entry at dword `sqeAt`, and lists into the pages at dword
 * `listAt` of `list`, which the controller sees at `listDma` and which are contiguous. Returns
 * the list pages used, or {@link PRP_IMPOSSIBLE}.
 */
export function buildPrps(
  segments: SegmentList,
  pageBytes: number,
  sqe: Uint32Array,
  sqeAt: number,
  list: Uint32Array,
  listAt: number,
  listDma: number,
  listPages: number,
): number {
  const first = segments.addr[0];
  const inPage = first & (pageBytes - 1);
  sqe[sqeAt + SqeDword.prp1Lo] = first;
  sqe[sqeAt + SqeDword.prp1Hi] = first / TWO_32;
  if (segments.count === 1) {
    if ((inPage & 3) !== 0) return PRP_IMPOSSIBLE;
    const end = inPage + segments.len[0];
    if (end <= 2 * pageBytes) {
      const second = end <= pageBytes ? 0 : first - inPage + pageBytes;
      sqe[sqeAt + SqeDword.prp2Lo] = second;
      sqe[sqeAt + SqeDword.prp2Hi] = second / TWO_32;
      return 0;
    }
  }
  const entries = countPrps(segments, pageBytes);
  if (entries < 0) return PRP_IMPOSSIBLE;
  if (entries === 2) {
    const second = segments.count === 1 ? first - inPage + pageBytes : segments.addr[1];
    sqe[sqeAt + SqeDword.prp2Lo] = second;
    sqe[sqeAt + SqeDword.prp2Hi] = second / TWO_32;
    return 0;
  }
  const pages = prpListPages(entries - 1, pageBytes);
  if (pages > listPages) return PRP_IMPOSSIBLE;
  sqe[sqeAt + SqeDword.prp2Lo] = listDma;
  sqe[sqeAt + SqeDword.prp2Hi] = listDma / TWO_32;
  fillLists(segments, pageBytes, entries - 1, list, listAt, listDma);
  return pages;
}

/** Writes `entries` entries: all pages of `segments` but the very first. */
function fillLists(
  segments: SegmentList,
  pageBytes: number,
  entries: number,
  list: Uint32Array,
  listAt: number,
  listDma: number,
): void {
  const slots = pageBytes / PRP_BYTES;
  let at = listAt;
  let slot = 0;
  let left = entries;
  let nextList = listDma + pageBytes;
  for (let i = 0; i < segments.count; i++) {
    const start = segments.addr[i];
    const offset = start & (pageBytes - 1);
    const end = start + segments.len[i];
    let page = start - offset;
    // The page of PRP1 is not in the list.
    if (i === 0) page += pageBytes;
    for (; page < end; page += pageBytes) {
      if (slot === slots - 1 && left > 1) {
        list[at] = nextList;
        list[at + 1] = nextList / TWO_32;
        at += 2;
        slot = 0;
        nextList += pageBytes;
      }
      list[at] = page;
      list[at + 1] = page / TWO_32;
      at += 2;
      slot++;
      left--;
    }
  }
}
