/**
 * Who is below whom: bridges claim bus numbers, and what no bridge claims is a root bus. Importers
 * derive host bridges from this, {@link MachineIndex} walks it.
 *
 * Invariants: a parent's bus number is below its child's (every enumerator numbers depth first), so
 * the result has no loops whatever the registers say. Bridges whose secondary bus breaks that claim
 * nothing and are reported.
 */

import {
  type Bdf,
  BRIDGE_DEPTH_MAX,
  bdfBus,
  bdfDomain,
  busKey,
  formatBdf,
  hexDigits,
  PeerlaneError,
} from "../core/index.ts";
import type { PciFunction } from "./snapshot.ts";

/** A bus without a bridge above it. */
export interface RootBus {
  readonly domain: number;
  readonly bus: number;
  /** The last bus number below it, as far as the functions tell. */
  readonly busEnd: number;
}

export interface Hierarchy {
  /** Index of the bridge above function i; -1 on a root bus. */
  readonly parent: Int32Array;
  /** Bridges above function i. */
  readonly depth: Uint8Array;
  /** Index into `rootBuses` of function i. */
  readonly rootOf: Int32Array;
  /** Sorted by domain and bus. */
  readonly rootBuses: readonly RootBus[];
  /**
   * True where the bridge above is known only by its range: virtual functions, or a partial dump.
   */
  readonly byRange: Uint8Array;
  /** What is wrong with the bus numbers, for the reader. */
  readonly problems: readonly string[];
}

/** Index of the bridge that claims each bus of one domain; -1 where none does. */
interface Claims {
  readonly exact: Int32Array;
  readonly range: Int32Array;
}

const BUSES = 256;

function claimsOf(functions: readonly PciFunction[], problems: string[]): Map<number, Claims> {
  const domains = new Map<number, Claims>();
  functions.forEach((fn, index) => {
    const domain = bdfDomain(fn.bdf);
    let claims = domains.get(domain);
    if (claims === undefined) {
      claims = { exact: new Int32Array(BUSES).fill(-1), range: new Int32Array(BUSES).fill(-1) };
      domains.set(domain, claims);
    }
    const bridge = fn.bridge;
    if (bridge === null || bridge.secondary === 0) return;
    if (bridge.secondary <= bdfBus(fn.bdf) || bridge.subordinate < bridge.secondary) {
      problems.push(
        `${formatBdf(fn.bdf)} claims buses ${busRange(bridge)} from its own bus: not followed`,
      );
      return;
    }
    const taken = claims.exact[bridge.secondary] as number;
    if (taken >= 0) {
      const other = formatBdf((functions[taken] as PciFunction).bdf);
      const both = `${formatBdf(fn.bdf)} and ${other} both`;
      problems.push(`${both} claim bus ${hexDigits(bridge.secondary, 2)}: first wins`);
      return;
    }
    claims.exact[bridge.secondary] = index;
    // Functions come in order of bus number, so a deeper bridge overwrites the one above it.
    for (let bus = bridge.secondary; bus <= bridge.subordinate; bus++) claims.range[bus] = index;
  });
  return domains;
}

const busRange = ({ secondary, subordinate }: { secondary: number; subordinate: number }): string =>
  `${hexDigits(secondary, 2)}-${hexDigits(subordinate, 2)}`;

/**
 * Derives the tree from bridges' bus numbers. `functions` are sorted by BDF.
 * @throws PeerlaneError `bridge-depth` when more bridges nest than any machine has.
 */
export function buildHierarchy(functions: readonly PciFunction[]): Hierarchy {
  const problems: string[] = [];
  const domains = claimsOf(functions, problems);
  const count = functions.length;
  const parent = new Int32Array(count).fill(-1);
  const depth = new Uint8Array(count);
  const byRange = new Uint8Array(count);
  const rootKeyOf = new Float64Array(count);
  const ends = new Map<number, number>();

  functions.forEach((fn, index) => {
    const domain = bdfDomain(fn.bdf);
    const bus = bdfBus(fn.bdf);
    const claims = domains.get(domain) as Claims;
    let above = claims.exact[bus] as number;
    if (above < 0) {
      above = claims.range[bus] as number;
      // A bridge is not below itself: its range may start at the bus it sits on only if broken.
      if (above >= 0) byRange[index] = 1;
    }
    parent[index] = above;
    if (above >= 0) {
      depth[index] = (depth[above] as number) + 1;
      checkDepth(depth[index] as number, fn.bdf);
      rootKeyOf[index] = rootKeyOf[above] as number;
    } else {
      rootKeyOf[index] = busKey(domain, bus);
    }
    const key = rootKeyOf[index] as number;
    const end = Math.max(bus, fn.bridge?.subordinate ?? 0, ends.get(key) ?? 0);
    ends.set(key, end);
  });

  const keys = [...ends.keys()].sort((a, b) => a - b);
  const rootBuses = keys.map((key) => ({
    domain: Math.floor(key / BUSES),
    bus: key % BUSES,
    busEnd: ends.get(key) as number,
  }));
  const position = new Map(keys.map((key, index) => [key, index]));
  const rootOf = new Int32Array(count);
  for (let i = 0; i < count; i++) rootOf[i] = position.get(rootKeyOf[i] as number) as number;
  return { parent, depth, rootOf, rootBuses, byRange, problems };
}

function checkDepth(depth: number, bdf: Bdf): void {
  if (depth <= BRIDGE_DEPTH_MAX) return;
  throw new PeerlaneError(
    "bridge-depth",
    `more than ${BRIDGE_DEPTH_MAX} bridges above a function`,
    {
      place: formatBdf(bdf),
      remedy: "check the bus numbers of the bridges above it; no machine nests that deep",
    },
  );
}
