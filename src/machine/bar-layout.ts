/**
 * The BARs and windows below one node of a root bus, as a packing problem: what each bridge needs
 * of each kind of window, and where everything goes once the top has an address.
 *
 * Invariants: a child's index is above its parent's (functions are sorted by BDF and buses nest),
 * so one backward pass sizes and one forward pass places; no recursion.
 */

import { alignUp, assert, formatBdf, PeerlaneError } from "../core/index.ts";
import { BridgeHeader, MEMORY_WINDOW_BYTES, readLe16 } from "../spec/pcie/index.ts";
import type { Interval } from "./address-map.ts";
import { physOfBus } from "./address-map.ts";
import { barSizeBound } from "./bar-bounds.ts";
import { isBarEnabled } from "./complete.ts";
import type { Bar, PciFunction, Window } from "./snapshot.ts";
import { withFreshConfig } from "./synthesize.ts";
import { type MachineIndex, NONE } from "./tree.ts";
import { virtualFunctionBdf } from "./virtual-functions.ts";

export type WindowKind = "memory" | "prefetchable";

/** Space that a bridge, or the top, needs. Bytes. */
export interface Need {
  readonly sizeBytes: number;
  readonly alignment: number;
}

/** Something that gets an address: a BAR, the VF BARs of one register, a bridge's window. */
interface Item {
  /** Function it belongs to. */
  readonly owner: number;
  readonly what: "bar" | "vf" | "window";
  /** Index of the BAR in its list; -1 for windows. */
  readonly at: number;
  readonly sizeBytes: number;
  readonly alignment: number;
  readonly address: number;
}

const ROM = 6;

export class Layout {
  readonly top: number;
  /** Functions whose addresses are in question. */
  readonly members: ReadonlySet<number>;
  /** What had to be taken for true if this kind is placed anew; each is one sentence. */
  readonly assumed: Readonly<Record<WindowKind, string[]>> = { memory: [], prefetchable: [] };
  private readonly index: MachineIndex;
  private readonly order: readonly number[];
  private readonly items: Record<WindowKind, Map<number, Item[]>>;
  private readonly needs: Record<WindowKind, Map<number, Need>>;
  private readonly wide: boolean;
  /** Name of something in use whose size is unknown, by kind; null when all can move. */
  private readonly unmovable: Record<WindowKind, string | null> = {
    memory: null,
    prefetchable: null,
  };
  private readonly changed = new Map<number, PciFunction>();

  constructor(index: MachineIndex, top: number) {
    this.index = index;
    this.top = top;
    const below = index.descendantsOf(top);
    this.members = new Set([top, ...below]);
    this.order = [top, ...below];
    this.items = { memory: new Map(), prefetchable: new Map() };
    this.needs = { memory: new Map(), prefetchable: new Map() };
    this.wide = this.order.every((i) => this.hasWideWindow(i));
    for (const kind of ["memory", "prefetchable"] as const) this.collect(kind);
  }

  /** A bridge without a 64-bit prefetchable window keeps everything below 4 GiB. */
  private hasWideWindow(i: number): boolean {
    const { bridge, config } = this.fn(i);
    if (bridge === null || config === null) return true;
    const base = readLe16(config, BridgeHeader.prefetchableBase);
    const limit = readLe16(config, BridgeHeader.prefetchableLimit);
    return (base & 0xf) === 1 && (limit & 0xf) === 1;
  }

  private fn(i: number): PciFunction {
    return this.changed.get(i) ?? (this.index.functions[i] as PciFunction);
  }

  /** The window a BAR belongs behind. */
  private kindOf(bar: Bar): WindowKind {
    return bar.kind === "memory64" && bar.prefetchable && this.wide ? "prefetchable" : "memory";
  }

  /** Bottom-up: what is behind each bridge, and how much space that takes. */
  private collect(kind: WindowKind): void {
    const items = this.items[kind];
    for (const i of this.order.toReversed()) {
      const own = i === this.top && this.fn(i).bridge !== null ? [] : this.barItems(i, kind);
      const holder = i === this.top ? NONE : this.index.parentOf(i);
      const list = items.get(holder) ?? [];
      list.push(...own);
      if (this.fn(i).bridge !== null) {
        const need = this.pack(items.get(i) ?? [], MEMORY_WINDOW_BYTES);
        this.needs[kind].set(i, need);
        if (need.sizeBytes > 0) {
          // What is behind it may lie in the other window, so a closed one is not yet a fault.
          const address = (this.windowOf(i, kind) ?? this.windowOf(i, otherKind(kind)))?.base ?? 0;
          list.push({ owner: i, what: "window", at: -1, ...need, address });
        }
      }
      items.set(holder, list);
    }
    this.needs[kind].set(NONE, this.pack(items.get(NONE) ?? [], 4096));
  }

  private windowOf(i: number, kind: WindowKind): Window | null {
    return this.fn(i).bridge?.[kind] ?? null;
  }

  private barItems(i: number, kind: WindowKind): Item[] {
    const fn = this.fn(i);
    const items: Item[] = [];
    // Virtual functions' BARs lie where their physical function's VF BARs are.
    if (fn.physicalFunction !== null) return items;
    fn.bars.forEach((bar, at) => {
      if (bar.kind === "io" || this.kindOf(bar) !== kind || !isWanted(bar)) return;
      const sizeBytes = this.sizeOf(i, bar, kind);
      if (sizeBytes === 0) return;
      items.push({
        owner: i,
        what: "bar",
        at,
        sizeBytes,
        alignment: sizeBytes,
        address: bar.address,
      });
    });
    for (const [at, bar] of (fn.sriov?.bars ?? []).entries()) {
      if (bar.kind === "io" || this.kindOf(bar) !== kind) continue;
      const total = (fn.sriov?.totalVfs ?? 0) * (bar.sizeBytes ?? 0);
      if (total === 0) this.noteUnsizedVfs(fn, bar, kind);
      if (total === 0 || bar.sizeBytes === null) continue;
      const { address, sizeBytes } = bar;
      items.push({ owner: i, what: "vf", at, sizeBytes: total, alignment: sizeBytes, address });
    }
    return items;
  }

  /** Size of a BAR; 0 when it has neither size nor address. */
  private sizeOf(i: number, bar: Bar, kind: WindowKind): number {
    if (bar.sizeBytes !== null) return bar.sizeBytes;
    const name = `${formatBdf(this.fn(i).bdf)} BAR ${bar.index}`;
    const bound = barSizeBound(this.index, i, bar);
    if (bound === null) {
      this.assumed[kind].push(`${name} has no address and no known size: it stays without`);
      return 0;
    }
    this.assumed[kind].push(
      `${name} has no known size: at most ${bound} bytes, that much is kept free`,
    );
    return bound;
  }

  private noteUnsizedVfs(fn: PciFunction, bar: Bar, kind: WindowKind): void {
    if (bar.address === 0) return;
    const name = `${formatBdf(fn.bdf)} VF BAR ${bar.index}`;
    if (fn.sriov?.vfEnable === true) this.unmovable[kind] ??= name;
    this.assumed[kind].push(`${name} is off and its size is unknown: it loses its address`);
  }

  /** Largest alignment first, so that nothing but the end of a window is wasted. */
  private pack(items: Item[], granule: number): Need {
    items.sort(
      (a, b) => b.alignment - a.alignment || b.sizeBytes - a.sizeBytes || a.owner - b.owner,
    );
    let end = 0;
    let alignment = granule;
    for (const item of items) {
      end = alignUp(end, item.alignment) + item.sizeBytes;
      alignment = Math.max(alignment, item.alignment);
    }
    return { sizeBytes: alignUp(end, granule), alignment };
  }

  /** What the top needs of one kind. */
  need(kind: WindowKind): Need {
    return this.needs[kind].get(NONE) as Need;
  }

  /** The kinds that have something to place, one, both or none. */
  movingKinds(): WindowKind[] {
    const moving = new Set<WindowKind>();
    // The second round sees what lies in a window of the other kind that the first round moves.
    for (let round = 0; round < 2; round++) {
      if (this.mustMove("memory", "prefetchable", moving)) moving.add("memory");
      if (this.mustMove("prefetchable", "memory", moving)) moving.add("prefetchable");
    }
    return [...moving].sort();
  }

  /**
   * True when something of this kind has no address, or lies outside every window of its bridge
   * that stays. Firmware may have put a BAR behind the window of the other kind; there it is in
   * place.
   */
  private mustMove(kind: WindowKind, other: WindowKind, moving: ReadonlySet<WindowKind>): boolean {
    for (const [holder, items] of this.items[kind]) {
      const window = holder === NONE ? null : this.windowOf(holder, kind);
      const second = holder === NONE || moving.has(other) ? null : this.windowOf(holder, other);
      for (const { address, sizeBytes, what, owner } of items) {
        if (address === 0) return true;
        const own = this.windowOf(owner, kind) ?? this.windowOf(owner, other);
        const inner = what === "window" ? own : null;
        const end = inner === null ? address + sizeBytes : inner.limit + 1;
        const isInPlace = contains(window, address, end) || contains(second, address, end);
        if (holder !== NONE && !isInPlace) return true;
      }
    }
    return false;
  }

  /** CPU addresses that one kind takes at the top, as it stands. */
  extents(kind: WindowKind): Interval[] {
    const bridge = this.index.hostBridgeOf(this.top);
    const window = this.windowOf(this.top, kind);
    if (this.fn(this.top).bridge !== null) {
      if (window === null) return [];
      const start = physOfBus(bridge, window.base);
      return [{ start, end: start + (window.limit + 1 - window.base) }];
    }
    return (this.items[kind].get(NONE) ?? [])
      .map(({ what, at, sizeBytes }) => ({ bar: this.barAt(this.top, what, at), sizeBytes }))
      .filter(({ bar }) => bar.address !== 0)
      .map(({ bar, sizeBytes }) => {
        const start = physOfBus(bridge, bar.address);
        return { start, end: start + sizeBytes };
      });
  }

  private barAt(i: number, what: Item["what"], at: number): Bar {
    const fn = this.fn(i);
    const bar = what === "vf" ? fn.sriov?.bars[at] : fn.bars[at];
    assert(bar !== undefined, "an item of a layout names a BAR that is there");
    return bar;
  }

  /**
   * Top-down: gives everything of one kind its address, the top's space starting at `base`.
   * @throws PeerlaneError `bar-size-unknown` when something in use cannot be moved
   */
  assign(kind: WindowKind, base: number): void {
    const name = this.unmovable[kind];
    if (name !== null) {
      throw new PeerlaneError("bar-size-unknown", `${name} is in use and its size is unknown`, {
        place: name,
        remedy: "give the text of lspci -vvv as well, which tells sizes of virtual functions' BARs",
      });
    }
    const bases = new Map<number, number>([[NONE, base]]);
    for (const holder of [NONE, ...this.order]) {
      const items = this.items[kind].get(holder) ?? [];
      let cursor = bases.get(holder) ?? 0;
      for (const item of items) {
        cursor = alignUp(cursor, item.alignment);
        if (item.what === "window") bases.set(item.owner, cursor);
        else this.setBar(item, cursor);
        cursor += item.sizeBytes;
      }
    }
    for (const i of this.order) this.setWindow(i, kind, bases.get(i));
    for (const i of this.order) this.dropUnsizedVfs(i, kind);
  }

  private setWindow(i: number, kind: WindowKind, base: number | undefined): void {
    const fn = this.fn(i);
    if (fn.bridge === null) return;
    const need = this.needs[kind].get(i);
    const window =
      base === undefined || need === undefined || need.sizeBytes === 0
        ? null
        : { base, limit: base + need.sizeBytes - 1 };
    this.changed.set(i, { ...fn, bridge: { ...fn.bridge, [kind]: window } });
  }

  private setBar(item: Item, address: number): void {
    assert(address % item.alignment === 0, "a BAR is placed at a multiple of its alignment");
    const fn = this.fn(item.owner);
    if (item.what === "bar") {
      const bars = fn.bars.map((bar, at) => (at === item.at ? placed(bar, address, fn) : bar));
      this.changed.set(item.owner, { ...fn, bars });
      return;
    }
    if (fn.sriov === null) return;
    const bars = fn.sriov.bars.map((bar, at) =>
      at === item.at ? { ...bar, address, enabled: fn.sriov?.vfEnable === true } : bar,
    );
    this.changed.set(item.owner, { ...fn, sriov: { ...fn.sriov, bars } });
    this.moveVirtualFunctions(item.owner, item.at);
  }

  /** BAR n of virtual function k is k sizes above that of the first. */
  private moveVirtualFunctions(owner: number, at: number): void {
    const { bdf, sriov } = this.fn(owner);
    const register = sriov?.bars[at];
    if (sriov == null || register === undefined) return;
    for (let n = 0; n < sriov.numVfs; n++) {
      const name = virtualFunctionBdf(bdf, sriov, n);
      const i = name === null ? NONE : this.index.indexOf(name);
      if (i === NONE) continue;
      const fn = this.fn(i);
      const address = register.address + n * (register.sizeBytes ?? 0);
      const bars = fn.bars.map((bar) => (bar.index === register.index ? { ...bar, address } : bar));
      this.changed.set(i, { ...fn, bars });
    }
  }

  private dropUnsizedVfs(i: number, kind: WindowKind): void {
    const fn = this.fn(i);
    if (fn.sriov === null) return;
    const isUnsized = (bar: Bar): boolean =>
      bar.kind !== "io" && bar.sizeBytes === null && this.kindOf(bar) === kind;
    if (!fn.sriov.bars.some((bar) => isUnsized(bar) && bar.address !== 0)) return;
    const bars = fn.sriov.bars.map((bar) => (isUnsized(bar) ? { ...bar, address: 0 } : bar));
    this.changed.set(i, { ...fn, sriov: { ...fn.sriov, bars } });
  }

  /** All functions of the machine, the changed ones with bytes that agree. */
  functions(): PciFunction[] {
    return this.index.functions.map((fn, i) => {
      const changed = this.changed.get(i);
      return changed === undefined ? fn : withFreshConfig(changed);
    });
  }
}

const otherKind = (kind: WindowKind): WindowKind => (kind === "memory" ? "prefetchable" : "memory");

/** ROMs that are off take no space; every other BAR does. */
const isWanted = (bar: Bar): boolean => bar.index !== ROM || bar.enabled;

const contains = (window: Window | null, start: number, end: number): boolean =>
  window !== null && window.base <= start && end <= window.limit + 1;

function placed(bar: Bar, address: number, fn: PciFunction): Bar {
  const moved = { ...bar, address };
  return { ...moved, enabled: isBarEnabled(moved, fn.command) };
}
