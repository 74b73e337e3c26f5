/**
 * Which GPU, and which SSD or NIC with it, where the scenario leaves the choice to the machine: the
 * pair that shares the deepest bridge, so that a dump given by a user runs without naming anything.
 * Deterministic.
 */

import { type Bdf, formatBdf, PeerlaneError } from "../../core/index.ts";
import {
  deviceKind,
  type Machine,
  MachineIndex,
  NONE,
  type PciFunction,
} from "../../machine/index.ts";
import { Rules, Topology } from "../../p2p/index.ts";
import { GPU_BAR_BYTES_MIN } from "../../spec/gpu/index.ts";

export interface GpuChoice {
  readonly gpu: Bdf;
  /** The SSD or the NIC. */
  readonly partner: Bdf;
  /** Why these; null where the scenario named both. */
  readonly why: string | null;
}

export interface GpuWish {
  readonly gpu: Bdf | "auto";
  readonly partner: Bdf | "auto";
  readonly partnerKind: "nvme" | "nic";
  /** What the aperture must be able to show: display chips of management controllers drop out. */
  readonly apertureMin: number;
  readonly apart: boolean;
}

interface Pair {
  readonly gpu: PciFunction;
  readonly partner: PciFunction;
  readonly depth: number;
  readonly refused: boolean;
}

/** A GPU whose BARs, as the dump tells them, can have the model behind them. */
export function canBeGpuModel(fn: PciFunction): boolean {
  if (deviceKind(fn) !== "gpu" || fn.physicalFunction !== null) return false;
  const registers = memoryBars(fn).find(({ index }) => index === 0);
  return (registers?.sizeBytes ?? 0) >= GPU_BAR_BYTES_MIN && apertureBytes(fn) > 0;
}

function memoryBars(fn: PciFunction): PciFunction["bars"] {
  return fn.bars.filter(
    ({ kind, address, sizeBytes, index }) =>
      kind !== "io" && index <= 5 && address !== 0 && sizeBytes !== null,
  );
}

/** The largest memory BAR but BAR0, as the model takes it. */
function apertureBytes(fn: PciFunction): number {
  const others = memoryBars(fn).filter(({ index }) => index > 0);
  return Math.max(0, ...others.map(({ sizeBytes }) => sizeBytes ?? 0));
}

function hasRegisters(fn: PciFunction): boolean {
  const bar = fn.bars.find(({ index }) => index === 0);
  return bar !== undefined && bar.kind !== "io" && bar.address !== 0 && bar.sizeBytes !== null;
}

/** Chooses. Throws `no-such-device`, `wrong-device`. */
export function chooseGpuPair(machine: Machine, wish: GpuWish): GpuChoice {
  const index = new MachineIndex(machine);
  const rules = new Rules(new Topology(machine, index));
  const gpus = candidates(
    index,
    wish.gpu,
    "GPU",
    (fn) => canBeGpuModel(fn) && apertureBytes(fn) >= wish.apertureMin,
  );
  const partners = candidates(
    index,
    wish.partner,
    wish.partnerKind === "nic" ? "NIC" : "NVMe controller",
    (fn) => deviceKind(fn) === wish.partnerKind && fn.physicalFunction === null && hasRegisters(fn),
  );
  const pairs = gpus.flatMap((gpu) =>
    partners.map((partner): Pair => {
      const common = index.commonOf(index.indexOf(gpu.bdf), index.indexOf(partner.bdf));
      const depth = common === NONE ? -1 : index.depthOf(common);
      const refused = rules.verdict(gpu.bdf, partner.bdf).route === "none";
      return { gpu, partner, depth, refused };
    }),
  );
  const fitting = wish.apart ? pairs.filter(({ refused }) => refused) : pairs;
  const best = fitting.sort(byFit)[0];
  if (best === undefined) {
    throw new PeerlaneError("no-such-device", "the rules keep no such pair of this machine apart", {
      place: machine.name,
      remedy: "leave `apart` out, or name an older kernel",
    });
  }
  const open = wish.gpu === "auto" || wish.partner === "auto";
  return { gpu: best.gpu.bdf, partner: best.partner.bdf, why: open ? reason(best) : null };
}

function candidates(
  index: MachineIndex,
  wanted: Bdf | "auto",
  what: string,
  fits: (fn: PciFunction) => boolean,
): PciFunction[] {
  if (wanted !== "auto") {
    const fn = index.functions[index.requireIndex(wanted)] as PciFunction;
    if (fits(fn)) return [fn];
    throw new PeerlaneError("wrong-device", `${formatBdf(wanted)} cannot be the ${what}`, {
      place: index.machine.name,
      remedy: `it is ${fn.className ?? "of another class"}, or its BARs are unknown: write auto`,
    });
  }
  const found = index.functions.filter(fits);
  if (found.length > 0) return found;
  throw new PeerlaneError("no-such-device", `the machine has no ${what} that could be used`, {
    place: index.machine.name,
    remedy: "give the dump of a machine that has one, with BAR sizes (lspci -vvv)",
  });
}

/** Routes first, then the deepest shared bridge, fast links, names. */
function byFit(a: Pair, b: Pair): number {
  if (a.refused !== b.refused) return a.refused ? 1 : -1;
  if (a.depth !== b.depth) return b.depth - a.depth;
  return (
    linkRate(b.gpu) + linkRate(b.partner) - linkRate(a.gpu) - linkRate(a.partner) ||
    a.gpu.bdf - b.gpu.bdf ||
    a.partner.bdf - b.partner.bdf
  );
}

function linkRate({ pcie }: PciFunction): number {
  const link = pcie?.link ?? null;
  return link === null ? 0 : 2 ** link.generation * link.width;
}

function reason({ depth, refused }: Pair): string {
  if (refused) return "the rules refuse a route between them";
  return depth >= 0 ? "they share a bridge" : "the first of each; they share no bridge";
}
