/**
 * Asks the fabric where a request of one function to another's BAR would go, by bus address, by
 * physical address and by IOVA, under each IOMMU mode.
 *
 * The fabric is built from the part of the machine that can matter for this pair: the chains above
 * both, whatever claims one of the addresses, and the bridges that lead to the initiator's bus. So
 * it costs the same on a server with hundreds of functions. A property test compares with the whole
 * machine.
 */

import { type Bdf, bdfBus, PAGE_SIZE, physAddr } from "../core/index.ts";
import { buildFabric, type Fabric, type RouteReport } from "../fabric/index.ts";
import {
  type HostBridge,
  type IommuMode,
  type Machine,
  type MachineIndex,
  NONE,
  type PciFunction,
} from "../machine/index.ts";

export type Direction = "write" | "read";

/** What stands in the request: see docs/guide/iommu.md. */
export type AddressForm = "bus" | "physical" | "iova";

/** A memory BAR that is shared. */
export interface SharedBar {
  readonly index: number;
  /** Bus address. */
  readonly address: number;
  readonly sizeBytes: number | null;
}

/** The largest memory BAR with an address, the one that would be shared; or the one asked for. */
export function sharedBar(fn: PciFunction, wanted?: number): SharedBar | null {
  const usable = fn.bars.filter(
    ({ kind, address, index }) =>
      kind !== "io" && address !== 0 && (wanted === undefined ? index < 6 : index === wanted),
  );
  const [best] = usable.sort(
    (a, b) => (b.sizeBytes ?? 0) - (a.sizeBytes ?? 0) || a.index - b.index,
  );
  return best === undefined ? null : best;
}

export class PathProbe {
  readonly machine: Machine;
  readonly initiator: Bdf;
  readonly owner: Bdf;
  readonly bar: SharedBar;
  /** CPU address of the BAR. */
  readonly physical: number;
  private readonly part: Machine;
  /** Made for the first question, and booted again for one about another mode. */
  private fabric: Fabric | null = null;
  private mode: IommuMode | null = null;
  private readonly iova: number;

  constructor(index: MachineIndex, initiator: Bdf, owner: Bdf, bar: SharedBar) {
    this.machine = index.machine;
    this.initiator = initiator;
    this.owner = owner;
    this.bar = bar;
    const bridge = index.hostBridgeOf(index.requireIndex(owner));
    this.physical = physicalOf(bridge, bar.address);
    this.iova = freePage(index.machine);
    const addresses = [bar.address, this.physical, this.iova];
    this.part = partFor(index, initiator, owner, addresses);
  }

  /** The address that the request carries in this form. */
  addressOf(form: AddressForm): number {
    if (form === "bus") return this.bar.address;
    return form === "physical" ? this.physical : this.iova;
  }

  /** The way of a request; IOVAs exist where the IOMMU translates only. */
  route(mode: IommuMode, form: AddressForm, direction: Direction): RouteReport {
    return this.booted(mode).route(this.initiator, this.addressOf(form), direction);
  }

  private booted(mode: IommuMode): Fabric {
    this.fabric ??= buildFabric(this.part);
    const { fabric } = this;
    if (this.mode === mode) return fabric;
    this.mode = mode;
    fabric.bootIommu(mode);
    const { iommu } = fabric;
    if (mode === "strict" && iommu !== null) {
      const domain = iommu.createDomain("translated");
      iommu.attach(domain, this.initiator);
      const page = this.physical - (this.physical % PAGE_SIZE);
      const rights = { read: true, write: true, mmio: true };
      iommu.map(domain, this.iova, physAddr(page), PAGE_SIZE, rights);
    }
    return fabric;
  }
}

function physicalOf(bridge: HostBridge | null, bus: number): number {
  const aperture = bridge?.apertures.find(
    (range) => bus >= range.bus && bus < range.bus + range.sizeBytes,
  );
  return aperture === undefined ? bus : bus - aperture.bus + aperture.phys;
}

const contains = (range: { base: number; limit: number } | null, address: number): boolean =>
  range !== null && address >= range.base && address <= range.limit;

/** Where Linux's allocator begins, downwards; then anywhere that no function claims. */
const IOVA_CANDIDATES = [0xffff_f000, 0xffff_0000, 0x7fff_f000, 0x1000_0000, 2 ** 45, 2 ** 46];

/** A page that is no function's bus address: an IOVA must not be one that a switch would claim. */
function freePage({ functions }: Machine): number {
  const isFree = (page: number): boolean => {
    const pages = [page];
    return !functions.some((fn) => claims(fn, pages));
  };
  return IOVA_CANDIDATES.find(isFree) ?? (IOVA_CANDIDATES.at(-1) as number);
}

/**
 * True where one of the addresses is in a window or BAR. Asked of every function several times,
 * before the engine knows it as hot: loops by index leave no iterators behind.
 */
function claims({ bridge, bars }: PciFunction, addresses: readonly number[]): boolean {
  for (let i = 0; i < addresses.length; i++) {
    const address = addresses[i];
    if (bridge !== null && contains(bridge.memory, address)) return true;
    if (bridge !== null && contains(bridge.prefetchable, address)) return true;
    for (let k = 0; k < bars.length; k++) {
      const bar = bars[k];
      if (bar.kind === "io" || bar.address === 0 || address < bar.address) continue;
      // A BAR whose size the dump does not tell may reach far.
      if (bar.sizeBytes === null || address < bar.address + bar.sizeBytes) return true;
    }
  }
  return false;
}

/** True for a bridge above one of the buses. */
function leadsTo({ bridge }: PciFunction, buses: ReadonlySet<number>): boolean {
  if (bridge === null) return false;
  for (const bus of buses) if (bus >= bridge.secondary && bus <= bridge.subordinate) return true;
  return false;
}

/** The functions that can have a say in the way of these addresses, and the bridges above them. */
function partFor(
  index: MachineIndex,
  initiator: Bdf,
  owner: Bdf,
  addresses: readonly number[],
): Machine {
  const { machine } = index;
  const kept = new Uint8Array(index.count);
  const keep = (at: number): void => {
    for (let node = at; node !== NONE && kept[node] === 0; node = index.parentOf(node)) {
      kept[node] = 1;
      const { physicalFunction } = machine.functions[node];
      if (physicalFunction !== null && index.indexOf(physicalFunction) !== NONE) {
        keep(index.indexOf(physicalFunction));
      }
    }
  };
  const from = index.requireIndex(initiator);
  keep(from);
  keep(index.requireIndex(owner));
  const buses = new Set([bdfBus(initiator)]);
  for (let at = index.parentOf(from); at !== NONE; at = index.parentOf(at)) {
    buses.add(bdfBus(machine.functions[at].bdf));
    buses.add(machine.functions[at].bridge?.secondary ?? 0);
  }
  for (let at = 0; at < index.count; at++) {
    const fn = machine.functions[at];
    if (leadsTo(fn, buses) || claims(fn, addresses)) keep(at);
  }
  const functions = machine.functions.filter((_, at) => kept[at] === 1);
  return functions.length === machine.functions.length ? machine : { ...machine, functions };
}
