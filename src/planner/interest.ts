/**
 * Which functions of a machine people ask about: NVMe, NICs, GPUs, accelerators. Ports and chipset
 * functions are on the way, not at its ends; virtual functions are as many as one likes.
 */

import { type Bdf, formatBdf, PeerlaneError, UsageError } from "../core/index.ts";
import {
  deviceKind,
  isUnknown,
  type Machine,
  type MachineIndex,
  type PciFunction,
} from "../machine/index.ts";

const KINDS = new Set(["nvme", "nic", "gpu", "accelerator"]);

export const isOfInterest = (fn: PciFunction): boolean =>
  KINDS.has(deviceKind(fn)) && fn.physicalFunction === null;

/**
 * Positions of the functions of interest. Where there is none, of all that are no bridge, and of
 * all where that is none either.
 */
export function interestOf({ functions }: Machine): number[] {
  const all = functions.map((_, i) => i);
  const chosen = all.filter((i) => isOfInterest(functions[i]));
  if (chosen.length > 0) return chosen;
  const ends = all.filter((i) => functions[i].bridge === null);
  return ends.length > 0 ? ends : all;
}

/**
 * The function that somebody named. Throws {@link UsageError} `no-such-function` with near names.
 */
export function namedFunction(index: MachineIndex, bdf: Bdf): PciFunction {
  try {
    return index.functions[index.requireIndex(bdf)];
  } catch (error) {
    if (!(error instanceof PeerlaneError) || error.code !== "no-such-function") throw error;
    const { place, remedy, details } = error;
    throw new UsageError(error.code, error.message, { place, remedy, details, cause: error });
  }
}

/** A BAR from this size on can be memory; below it, it holds registers. */
const MEMORY_BAR_BYTES = 2 ** 20;

/**
 * True for what has memory that one would share, or may have as far as the dump tells: published
 * peer memory, a memory BAR of 1 MiB and more or of unknown size, BARs that are not in the dump.
 * BARs of NICs are doorbells and registers, however large.
 */
export function sharesMemory(fn: PciFunction): boolean {
  if (fn.p2pmem !== null) return true;
  if (deviceKind(fn) === "nic") return false;
  if (isUnknown(fn, "bars")) return true;
  return fn.bars.some(
    ({ kind, index, sizeBytes }) =>
      kind !== "io" && index < 6 && (sizeBytes === null || sizeBytes >= MEMORY_BAR_BYTES),
  );
}

const LABELS: Readonly<Record<string, string>> = { nvme: "NVMe", nic: "NIC", gpu: "GPU" };

/** `NVMe`, `NIC`, `accelerator`, `bridge`. */
export function kindName(fn: PciFunction): string {
  const kind = deviceKind(fn);
  return LABELS[kind] ?? (kind === "other" ? (fn.className ?? "function") : kind);
}

/** `Micron Technology Inc Device 51c3`, as far as the dump names it. */
export const deviceName = ({ vendorName, deviceName: device }: PciFunction): string =>
  `${vendorName ?? ""} ${device ?? ""}`.trim();

/** `0000:18:00.0 (NVMe)`. */
export const nameWithKind = (fn: PciFunction): string => `${formatBdf(fn.bdf)} (${kindName(fn)})`;
