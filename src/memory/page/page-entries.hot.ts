/**
 * The page entries of one registered range, 64 bytes each as `struct page` has on 64-bit Linux, and
 * the table that finds a range by page index. A page index is a page frame number.
 *
 * An entry, in 32-bit words: 0 flags, 1 references, 2 the registration's slot, 3 index in the
 * registration; the other twelve are what the kernel keeps there for the page cache and for lists:
 * device memory has no use for them, and that is what registration costs.
 *
 * Invariants: a subsection (2 MiB) belongs to one registration at most; `pinned` is the sum of all
 * entries' references.
 */

import { PAGE_SIZE } from "../../core/index.ts";
import { MapStatus } from "../contract.ts";
import type { PeerRoutes } from "../peer/peer-routes.hot.ts";
import { PAGE_ENTRY_BYTES, SUBSECTION_BYTES } from "./linear-map.ts";

export const PAGE_ENTRY_WORDS = PAGE_ENTRY_BYTES / 4;
export const PageWord = { flags: 0, references: 1, slot: 2, index: 3 } as const;
/** Bits of an entry's flags. */
export const PageFlag = {
  present: 1,
  /** "Map me specially": peer memory. The one thing that the page is needed for. */
  peer: 2,
} as const;

const NO_WORDS = new Uint32Array(0);

/** Hot half of a registration. */
export class PageEntries {
  readonly phys: number;
  readonly sizeBytes: number;
  /** Null: host memory. */
  readonly routes: PeerRoutes | null;
  words: Uint32Array;
  /** References on all pages. */
  pinned = 0;
  /** The provider is going: no new pins; what is pinned may go on. */
  dying = false;
  gone = false;
  private onUnpinned: (() => void) | null = null;

  constructor(phys: number, sizeBytes: number, routes: PeerRoutes | null, words: Uint32Array) {
    this.phys = phys;
    this.sizeBytes = sizeBytes;
    this.routes = routes;
    this.words = words;
  }

  /** Index of the first word of the entry that describes a physical address inside the range. */
  wordOf(address: number): number {
    return Math.floor((address - this.phys) / PAGE_SIZE) * PAGE_ENTRY_WORDS;
  }

  /**
   * Takes a reference on each page of [address, address + length), as pinning for one I/O does.
   * Returns a {@link MapStatus}.
   */
  pin(address: number, length: number): number {
    if (this.dying) return MapStatus.revoked;
    if (address < this.phys || length <= 0 || address + length > this.phys + this.sizeBytes) {
      return MapStatus.outOfRange;
    }
    const last = this.wordOf(address + length - 1);
    const { words } = this;
    for (let at = this.wordOf(address); at <= last; at += PAGE_ENTRY_WORDS) {
      words[at + PageWord.references]++;
      this.pinned++;
    }
    return MapStatus.ok;
  }

  /** Gives back what {@link pin} took for the same range. */
  unpin(address: number, length: number): void {
    const last = this.wordOf(address + length - 1);
    const { words } = this;
    for (let at = this.wordOf(address); at <= last; at += PAGE_ENTRY_WORDS) {
      words[at + PageWord.references]--;
      this.pinned--;
    }
    if (this.pinned === 0 && this.onUnpinned !== null) this.onUnpinned();
  }

  protected whenUnpinned(then: () => void): void {
    if (this.pinned === 0) then();
    else this.onUnpinned = then;
  }

  protected drop(): void {
    this.gone = true;
    this.words = NO_WORDS;
  }
}

/** 2 MiB subsections of 16 GiB. */
const LEAF_SLOTS = 8192;
const LEAF_BYTES = LEAF_SLOTS * SUBSECTION_BYTES;

/** Two levels over subsections, as the kernel's sections with roots (SPARSEMEM_EXTREME). */
export class SubsectionTable {
  private readonly leaves: (Int32Array | null)[] = [];
  readonly entries: (PageEntries | null)[] = [];

  /** Registration that has the page at this address; null: there is no page. */
  find(address: number): PageEntries | null {
    const root = Math.floor(address / LEAF_BYTES);
    const leaf = root < this.leaves.length ? this.leaves[root] : null;
    if (leaf === null) return null;
    const slot = leaf[Math.floor((address - root * LEAF_BYTES) / SUBSECTION_BYTES)];
    return slot === 0 ? null : this.entries[slot - 1];
  }

  /** True when no subsection of the range has an owner. */
  isFree(start: number, length: number): boolean {
    for (let at = start; at < start + length; at += SUBSECTION_BYTES) {
      if (this.find(at) !== null) return false;
    }
    return true;
  }

  /** Makes `entries` the owner of its subsections. Returns the slot, from 1. */
  add(entries: PageEntries): number {
    const slot = this.entries.push(entries);
    this.fill(entries, slot);
    return slot;
  }

  remove(entries: PageEntries): void {
    this.fill(entries, 0);
    const at = this.entries.indexOf(entries);
    if (at >= 0) this.entries[at] = null;
  }

  /** Bytes of its leaves. */
  get sizeBytes(): number {
    return this.leaves.reduce((sum, leaf) => sum + (leaf === null ? 0 : leaf.byteLength), 0);
  }

  private fill({ phys, sizeBytes }: PageEntries, slot: number): void {
    for (let at = phys; at < phys + sizeBytes; at += SUBSECTION_BYTES) {
      const root = Math.floor(at / LEAF_BYTES);
      while (this.leaves.length <= root) this.leaves.push(null);
      let leaf = this.leaves[root];
      if (leaf === null) {
        leaf = new Int32Array(LEAF_SLOTS);
        this.leaves[root] = leaf;
      }
      leaf[Math.floor((at - root * LEAF_BYTES) / SUBSECTION_BYTES)] = slot;
    }
  }
}
