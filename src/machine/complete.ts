/**
 * One function told by two sources: configuration space decides, text (or sysfs) completes what it
 * does not reach: extended capabilities of a 256-byte dump, BAR sizes, NUMA node, driver, names.
 *
 * Invariant: a field that the base knows is never replaced; `unknown` of the result has no entry
 * for a field that either side knew.
 */

import { formatBdf, formatDeviceId, hexDigits, PeerlaneError } from "../core/index.ts";
import { UNKNOWN_ID } from "./blank.ts";
import { barDecodes } from "./config-facts.ts";
import { type Bar, isUnknown, type PciFunction, type Unknown } from "./snapshot.ts";

/** Fields taken whole from the other side when the base does not know them. */
const WHOLE_FIELDS = [
  "command",
  "bridge",
  "pcie",
  "acs",
  "sriov",
  "resizableBars",
  "msix",
  "ats",
  "aerOffset",
  "numaNode",
  "iommuGroup",
  "driver",
] as const;

/** Fields that are null when not told, without an entry in `unknown`. */
const OPTIONAL_FIELDS = [
  "subsystemVendorId",
  "subsystemId",
  "vendorName",
  "deviceName",
  "physicalSlot",
  "p2pmem",
  "physicalFunction",
] as const;

type Mutable = { -readonly [K in keyof PciFunction]: PciFunction[K] };

function copyField<K extends keyof PciFunction>(to: Mutable, from: PciFunction, field: K): void {
  to[field] = from[field];
}

/** The base's BARs, with sizes of the other's, then BARs that only the other has. */
function completeBars(base: PciFunction, other: PciFunction, known: Set<string>): Bar[] {
  const bars = base.bars.map((bar) => {
    const match = other.bars.find(({ index }) => index === bar.index);
    if (match === undefined) return bar;
    // A size belongs to the register, not to the address: a ROM that is off often has another one.
    if (bar.sizeBytes !== null || match.sizeBytes === null || match.kind !== bar.kind) return bar;
    known.add(`bars[${bar.index}].sizeBytes`);
    return { ...bar, sizeBytes: match.sizeBytes };
  });
  for (const bar of other.bars) {
    if (bars.some(({ index }) => index === bar.index)) continue;
    // The register reads zero, so the function does not decode it, whatever the system assigned.
    bars.push(base.config === null ? bar : { ...bar, enabled: false });
  }
  return bars.sort((a, b) => a.index - b.index);
}

/** The list of capabilities: the base's, then extended ones that only the other lists. */
function completeCapabilities(base: PciFunction, other: PciFunction): PciFunction["capabilities"] {
  if (base.capabilities.length === 0) return other.capabilities;
  if (base.capabilities.some(({ extended }) => extended)) return base.capabilities;
  return [...base.capabilities, ...other.capabilities.filter(({ extended }) => extended)];
}

/**
 * Completes `base` with what `other` knows of the same function.
 * @throws PeerlaneError `sources-disagree` when they are not the same device.
 */
export function completeFunction(
  base: PciFunction,
  other: PciFunction,
  places: { readonly base: string; readonly other: string },
): PciFunction {
  checkSameDevice(base, other, places);
  const result: Mutable = { ...base };
  const known = new Set<string>();
  for (const field of ["vendorId", "deviceId"] as const) {
    if (base[field] !== UNKNOWN_ID || other[field] === UNKNOWN_ID) continue;
    result[field] = other[field];
    known.add(field);
  }
  if (isUnknown(base, "classCode") && !isUnknown(other, "classCode")) {
    result.classCode = other.classCode;
    result.headerType = other.headerType;
    known.add("classCode");
  }
  for (const field of WHOLE_FIELDS) {
    if (!isUnknown(base, field) || isUnknown(other, field)) continue;
    copyField(result, other, field);
    known.add(field);
  }
  for (const field of OPTIONAL_FIELDS) if (base[field] === null) copyField(result, other, field);
  result.className = other.className ?? base.className;
  result.kernelNames = base.kernelNames ?? other.kernelNames ?? [];
  if (base.iommuDomain === undefined && other.iommuDomain !== undefined) {
    result.iommuDomain = other.iommuDomain;
  }
  result.bars = completeBars(base, other, known);
  if (isUnknown(base, "bars") && !isUnknown(other, "bars")) known.add("bars");
  result.capabilities = completeCapabilities(base, other);
  if (isUnknown(base, "capabilities") && !isUnknown(other, "capabilities")) {
    known.add("capabilities");
  }
  result.config = longerConfig(base, other);
  result.unknown = remaining(base, result, other, known);
  return result;
}

function longerConfig(base: PciFunction, other: PciFunction): Uint8Array | null {
  if (base.config === null) return other.config;
  if (other.config === null) return base.config;
  return other.config.length > base.config.length ? other.config : base.config;
}

/** Entries of the base that still stand, and those of what was taken over from the other. */
function remaining(
  base: PciFunction,
  result: PciFunction,
  other: PciFunction,
  known: ReadonlySet<string>,
): Unknown[] {
  const entries = base.unknown.filter(({ field }) => !known.has(field));
  for (const entry of other.unknown) {
    // What was taken whole brings its own gaps: `pcie.link` of a port inferred from its place.
    const owner = entry.field.split(".", 1)[0] as string;
    if (owner !== entry.field && known.has(owner)) {
      entries.push(entry);
      continue;
    }
    const inner = /^(?:(sriov)\.)?bars\[(\d)\]\./.exec(entry.field);
    if (inner === null) continue;
    const isTaken =
      inner[1] === "sriov"
        ? known.has("sriov")
        : !base.bars.some(({ index }) => index === Number(inner[2])) &&
          result.bars.some(({ index }) => index === Number(inner[2]));
    if (isTaken) entries.push(entry);
  }
  return entries;
}

function checkSameDevice(
  base: PciFunction,
  other: PciFunction,
  places: { readonly base: string; readonly other: string },
): void {
  // Vendors are not compared: a text without ids names a vendor, and some have several ids.
  const isOtherDevice =
    base.deviceId !== UNKNOWN_ID &&
    other.deviceId !== UNKNOWN_ID &&
    base.deviceId !== other.deviceId;
  const isOtherClass =
    !isUnknown(base, "classCode") &&
    !isUnknown(other, "classCode") &&
    base.classCode >>> 16 !== other.classCode >>> 16;
  if (!isOtherDevice && !isOtherClass) return;
  const what = (fn: PciFunction): string =>
    `${formatDeviceId(fn.vendorId, fn.deviceId)} class ${hexDigits(fn.classCode >>> 8, 4)}`;
  throw new PeerlaneError(
    "sources-disagree",
    `${formatBdf(base.bdf)} is ${what(base)} at ${places.base}, but ${what(other)} here`,
    {
      place: places.other,
      remedy: "give files of one machine, taken at the same time",
    },
  );
}

/** Whether a BAR decodes, once command register and address are both known. */
export function isBarEnabled(bar: Bar, command: number | null): boolean {
  return bar.address !== 0 && (command === null || barDecodes(bar.kind, command));
}
