/**
 * Which NIC and which SSD a scenario uses, where it leaves the choice to the machine: the pair that
 * the rules like best, so that a dump given by a user runs without naming anything. Deterministic.
 */

import { type Bdf, formatBdf, PeerlaneError } from "../core/index.ts";
import {
  deviceKind,
  type Machine,
  MachineIndex,
  NONE,
  type PciFunction,
} from "../machine/index.ts";
import { Rules, Topology } from "../p2p/index.ts";
import type { Scenario } from "./schema.ts";

export interface DeviceChoice {
  readonly nic: Bdf;
  readonly ssd: Bdf;
  /** Why these; null where the scenario named them. */
  readonly why: string | null;
}

/**
 * GPUs and accelerators with a memory BAR of at least `sizeBytes`: what can stage payload. Display
 * chips of management controllers have less, and drop out.
 */
export function memoryOwners(machine: Machine, sizeBytes: number): PciFunction[] {
  return machine.functions.filter((fn) => {
    const kind = deviceKind(fn);
    if (fn.physicalFunction !== null || (kind !== "gpu" && kind !== "accelerator")) return false;
    return payloadBar(fn, sizeBytes) !== null;
  });
}

/** The largest memory BAR with an address; null when it is smaller than `sizeBytes` or unknown. */
export function payloadBar(
  fn: PciFunction,
  sizeMin: number,
): { index: number; sizeBytes: number } | null {
  let best: { index: number; sizeBytes: number } | null = null;
  for (const { index, kind, address, sizeBytes } of fn.bars) {
    if (kind === "io" || index > 5 || address === 0 || sizeBytes === null) continue;
    if (sizeBytes < sizeMin || (best !== null && best.sizeBytes >= sizeBytes)) continue;
    best = { index, sizeBytes };
  }
  return best;
}

interface Pair {
  readonly nic: PciFunction;
  readonly ssd: PciFunction;
  /** -1 when they share no bridge. */
  readonly sharedDepth: number;
  /** A memory owner below the bridge that both share. */
  readonly owner: boolean;
}

/** Chooses what the scenario leaves open. Throws `no-such-device` when the machine has none. */
export function chooseDevices(machine: Machine, target: Scenario["target"]): DeviceChoice {
  const index = new MachineIndex(machine);
  const usable = (kind: string): PciFunction[] =>
    machine.functions.filter(
      (fn) => deviceKind(fn) === kind && fn.physicalFunction === null && hasRegisters(fn),
    );
  const nics = named(index, target.nic, "nic") ?? usable("nic");
  const ssds = named(index, target.ssd, "nvme") ?? usable("nvme");
  if (nics.length === 0) throw noDevice(machine, "nic", "NIC");
  if (ssds.length === 0) throw noDevice(machine, "nvme", "NVMe controller");
  const owners = memoryOwners(machine, target.providerBytes).map((fn) => index.indexOf(fn.bdf));
  const pairs = nics.flatMap((nic) => ssds.map((ssd) => makePair(index, owners, nic, ssd)));
  const rules = new Rules(new Topology(machine, index));
  const isRefused = ({ nic, ssd }: Pair): boolean =>
    rules.verdict(ssd.bdf, nic.bdf).route === "none";
  const candidates = target.apart ? pairs.filter(isRefused) : pairs;
  const best = candidates.sort(target.apart ? bySpeed : byFit)[0];
  if (best === undefined) {
    throw new PeerlaneError("no-such-device", "no NIC and SSD of this machine are kept apart", {
      place: machine.name,
      remedy: "every pair has a route here; run the scenario that shares a switch",
    });
  }
  const open = target.nic === "auto" || target.ssd === "auto";
  return { nic: best.nic.bdf, ssd: best.ssd.bdf, why: open ? reasonFor(best, target.apart) : null };
}

/** Registers of a NIC or SSD need a memory BAR with a size that the dump tells. */
function hasRegisters(fn: PciFunction): boolean {
  const bar = fn.bars.find(({ index }) => index === 0);
  return bar !== undefined && bar.kind !== "io" && bar.address !== 0 && bar.sizeBytes !== null;
}

function named(index: MachineIndex, wanted: Bdf | "auto", kind: string): PciFunction[] | null {
  if (wanted === "auto") return null;
  const fn = index.functions[index.requireIndex(wanted)] as PciFunction;
  if (deviceKind(fn) === kind) return [fn];
  throw new PeerlaneError("wrong-device", `${formatBdf(wanted)} is no ${kind}`, {
    place: index.machine.name,
    remedy: `it is ${fn.className ?? "of another class"}: name another function, or write auto`,
  });
}

function makePair(
  index: MachineIndex,
  owners: readonly number[],
  nic: PciFunction,
  ssd: PciFunction,
): Pair {
  const common = index.commonOf(index.indexOf(nic.bdf), index.indexOf(ssd.bdf));
  const owner = common !== NONE && owners.some((i) => index.isBelow(i, common));
  return { nic, ssd, sharedDepth: common === NONE ? -1 : index.depthOf(common), owner };
}

const byName = (a: Pair, b: Pair): number => a.nic.bdf - b.nic.bdf || a.ssd.bdf - b.ssd.bdf;

const bySpeed = (a: Pair, b: Pair): number => linkRate(b.nic) - linkRate(a.nic) || byName(a, b);

/** With memory beside them first, then the deepest shared bridge, then fast links, then names. */
function byFit(a: Pair, b: Pair): number {
  if (a.owner !== b.owner) return a.owner ? -1 : 1;
  if (a.sharedDepth !== b.sharedDepth) return b.sharedDepth - a.sharedDepth;
  return bySpeed(a, b);
}

function linkRate({ pcie }: PciFunction): number {
  const link = pcie?.link ?? null;
  return link === null ? 0 : 2 ** link.generation * link.width;
}

function reasonFor({ owner, sharedDepth }: Pair, apart: boolean): string {
  if (apart) return "the fastest NIC and the first SSD between which the rules refuse a route";
  if (owner) return "they share a switch with a device that has memory to offer";
  return sharedDepth >= 0 ? "they share a bridge" : "the first of each; they share no bridge";
}

function noDevice(machine: Machine, kind: string, what: string): PeerlaneError {
  const there = machine.functions.filter((fn) => deviceKind(fn) === kind).length;
  if (there === 0) {
    return new PeerlaneError("no-such-device", `the machine has no ${what}`, {
      place: machine.name,
      remedy: "give the dump of a machine that has one",
    });
  }
  const gap = `${there} of kind ${what}, but the dump tells the size of no register BAR of theirs`;
  return new PeerlaneError("bar-size-unknown", gap, {
    place: machine.name,
    remedy: "give lspci -vvv of the machine (hex alone and lspci without -v have no sizes)",
  });
}
