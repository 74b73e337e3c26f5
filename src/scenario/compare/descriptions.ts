/**
 * The five descriptions behind one handle: how each is opened over a provider for given
 * initiators, what a submitter does around an I/O, and how it ends. The handles hold no measuring
 * and no judging: see io-cost.ts and works.ts.
 */

import { PeerlaneError } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import {
  DmaAddressMemory,
  FrameFlag,
  frameOf,
  type IoMemory,
  LeaseMemory,
  type LinearMap,
  offsetOfFrame,
  PageMemory,
  type PageRegistration,
  PageTable,
  type PeerRoutes,
  PfnMemory,
  PhysMap,
  PhysMemory,
} from "../../memory/index.ts";
import { openLease, type Provider } from "../../p2p/index.ts";
import type { CompareSetup } from "./setup.ts";

export const DESCRIPTIONS = ["page", "pfn", "dma-address", "phys", "lease"] as const;
export type CompareDescription = (typeof DESCRIPTIONS)[number];

/** What opening a description needs of a machine. */
export type DescriptionSetup = Pick<CompareSetup, "context" | "rules">;

/** What a submitter does around an I/O, so that the memory stays. */
export interface Hold {
  /** Before the I/O; false: refused. */
  begin(offset: number, length: number): boolean;
  /** After its last completion. */
  end(offset: number, length: number): void;
}

export interface Handle {
  readonly memory: IoMemory;
  /** Offset that names the provider's first byte. */
  readonly first: number;
  /** Bytes of the arrays that registering made. */
  readonly registeredBytes: number;
  /** What works addresses out per I/O; null where that was done at opening. */
  readonly routes: PeerRoutes | null;
  /** Addresses worked out at opening. */
  readonly translatedAtOpening: number;
  readonly hold: Hold;
  /** The provider is going: starts it, and resolves when the memory may be switched off. */
  takeAway(): Promise<void>;
}

export interface OpenOptions {
  readonly linearMap?: LinearMap;
}

/** Opens a description. Throws what registering or opening it throws. */
export function openDescription(
  kind: CompareDescription,
  setup: DescriptionSetup,
  provider: Provider,
  initiators: readonly DmaDevice[],
  options: OpenOptions = {},
): Handle {
  switch (kind) {
    case "page":
      return openPage(setup, provider, options.linearMap);
    case "pfn":
      return openPfn(setup, provider);
    case "phys":
      return openPhys(setup, provider);
    case "dma-address":
      return openDmaAddress(setup, provider, initiators[0] as DmaDevice);
    default:
      return openLeased(setup, provider, initiators);
  }
}

/** Pages are pinned. */
class PinHold implements Hold {
  private readonly pages: PageRegistration;
  constructor(pages: PageRegistration) {
    this.pages = pages;
  }
  begin(offset: number, length: number): boolean {
    return this.pages.pin(offset, length) === 0;
  }
  end(offset: number, length: number): void {
    this.pages.unpin(offset, length);
  }
}

/** Nothing keeps the memory. */
export class NoHold implements Hold {
  begin(): boolean {
    return true;
  }
  end(): void {}
}

function openPage(setup: DescriptionSetup, provider: Provider, linearMap?: LinearMap): Handle {
  const table = new PageTable(setup.context, setup.rules, linearMap);
  const pages = table.register(provider);
  return {
    memory: new PageMemory(table, pages),
    first: provider.phys,
    registeredBytes: pages.entriesBytes + table.table.sizeBytes,
    routes: pages.routes,
    translatedAtOpening: 0,
    hold: new PinHold(pages),
    takeAway: () => provider.teardown(),
  };
}

function addPhys(setup: DescriptionSetup, provider: Provider): PhysMap {
  const map = new PhysMap(setup.context, setup.rules);
  map.addProvider(provider);
  return map;
}

function openPhys(setup: DescriptionSetup, provider: Provider): Handle {
  const map = addPhys(setup, provider);
  return {
    memory: new PhysMemory(map),
    first: provider.phys,
    registeredBytes: map.sizeBytes,
    routes: map.routes[0] ?? null,
    translatedAtOpening: 0,
    hold: new NoHold(),
    takeAway: () => {
      map.removeProvider(provider);
      return provider.teardown();
    },
  };
}

/** Frames of device memory without pages, which is what the type was for. */
function openPfn(setup: DescriptionSetup, provider: Provider): Handle {
  const below = openPhys(setup, provider);
  const frame = frameOf(provider.phys, FrameFlag.device);
  return {
    ...below,
    memory: new PfnMemory(below.memory as PhysMemory, null),
    first: offsetOfFrame(frame, 0),
  };
}

/** The RFC: bus addresses behind one root port, nothing through the host bridge. */
function openDmaAddress(setup: DescriptionSetup, provider: Provider, device: DmaDevice): Handle {
  const verdict = setup.rules.verdict(provider.owner, device.bdf);
  if (verdict.route !== "bus" && verdict.route !== "self") {
    throw new PeerlaneError("no-route", "the RFC derives bus addresses only", {
      remedy: "put both below one switch, or use a lease",
    });
  }
  return {
    memory: new DmaAddressMemory(device.id),
    first: provider.busAt(0),
    registeredBytes: 0,
    routes: null,
    translatedAtOpening: 1,
    hold: new NoHold(),
    takeAway: () => provider.teardown(),
  };
}

function openLeased(
  setup: DescriptionSetup,
  provider: Provider,
  initiators: readonly DmaDevice[],
): Handle {
  const lease = openLease({ provider, rules: setup.rules, initiators });
  return {
    memory: new LeaseMemory(lease),
    first: 0,
    registeredBytes: lease.bases.byteLength,
    routes: null,
    translatedAtOpening: lease.routes.length,
    hold: lease,
    takeAway: () => provider.teardown(),
  };
}
