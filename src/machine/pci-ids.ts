/**
 * Names of vendors and devices from the system's PCI ID database, for machines whose source tells
 * numbers only; and numbers from names, for dumps without them. Behind it stands a small table of
 * vendors (importers/names.ts), so that output is readable where no database is installed.
 *
 * The database is scanned once for what is wanted, not built into tables: it has 1.4 MiB, and a
 * machine wants a few dozen lines of it.
 * Leaves out: subsystem names and programming interfaces. Format: pci.ids(5) of pciutils.
 */

import { hexDigits, PCI_IDS_BYTES_MAX, PeerlaneError } from "../core/index.ts";
import type { Files } from "../platform/index.ts";
import { UNKNOWN_ID } from "./blank.ts";
import { vendorNameOf } from "./importers/names.ts";
import { isUnknown, type Machine, type PciFunction } from "./snapshot.ts";

/** Where distributions put it: Debian and its kin, then Fedora, Arch and their kin. */
const PLACES = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/** Names found, by number; and numbers found, by name. */
export interface PciIds {
  readonly vendors: ReadonlyMap<number, string>;
  /** Key: vendor * 65536 + device. */
  readonly devices: ReadonlyMap<number, string>;
  /** `vendor name|device name` to both numbers; only for names that one device of a vendor has. */
  readonly numbers: ReadonlyMap<string, { readonly vendorId: number; readonly deviceId: number }>;
}

const NO_IDS: PciIds = { vendors: new Map(), devices: new Map(), numbers: new Map() };

const deviceKey = (vendorId: number, deviceId: number): number => vendorId * 65536 + deviceId;
const nameKey = (vendor: string, device: string): string => `${vendor}|${device}`;

/** What a machine needs from the database. */
interface Wanted {
  readonly vendors: ReadonlySet<number>;
  readonly devices: ReadonlySet<number>;
  /** Vendor names of functions whose device number is to be found. */
  readonly vendorNames: ReadonlySet<string>;
  readonly names: ReadonlySet<string>;
}

function wantedBy(functions: readonly PciFunction[]): Wanted {
  const vendors = new Set<number>();
  const devices = new Set<number>();
  const vendorNames = new Set<string>();
  const names = new Set<string>();
  for (const fn of functions) {
    if (fn.vendorId !== UNKNOWN_ID && lacksName(fn)) {
      vendors.add(fn.vendorId);
      devices.add(deviceKey(fn.vendorId, fn.deviceId));
    }
    if (needsNumber(fn)) {
      vendorNames.add(fn.vendorName as string);
      names.add(nameKey(fn.vendorName as string, fn.deviceName as string));
    }
  }
  return { vendors, devices, vendorNames, names };
}

const lacksName = ({ vendorName, deviceName }: PciFunction): boolean =>
  vendorName === null || deviceName === null;

const needsNumber = (fn: PciFunction): boolean =>
  fn.vendorName !== null &&
  fn.deviceName !== null &&
  (isUnknown(fn, "deviceId") || isUnknown(fn, "vendorId"));

/** Scans the database. Lines that are not of its format are skipped. */
export function scanPciIds(text: string, functions: readonly PciFunction[]): PciIds {
  const wanted = wantedBy(functions);
  const vendors = new Map<number, string>();
  const devices = new Map<number, string>();
  const numbers = new Map<string, { vendorId: number; deviceId: number }>();
  const twice = new Set<string>();
  let vendorId = -1;
  let vendorName = "";
  let isWanted = false;
  for (let start = 0; start < text.length; ) {
    let end = text.indexOf("\n", start);
    if (end < 0) end = text.length;
    const first = text.charCodeAt(start);
    // Tab: a device. Two tabs: a subsystem. `C `: classes follow, which are last.
    if (first === 67 && text.charCodeAt(start + 1) === 32) break;
    if (first === 9 && isWanted && text.charCodeAt(start + 1) !== 9) {
      const deviceId = Number.parseInt(text.slice(start + 1, start + 5), 16);
      const name = text.slice(start + 7, end).trim();
      const key = deviceKey(vendorId, deviceId);
      if (wanted.devices.has(key)) devices.set(key, name);
      const named = nameKey(vendorName, name);
      if (wanted.names.has(named)) {
        if (numbers.has(named)) twice.add(named);
        numbers.set(named, { vendorId, deviceId });
      }
    } else if (first !== 9 && first !== 35 && end - start > 6) {
      vendorId = Number.parseInt(text.slice(start, start + 4), 16);
      vendorName = text.slice(start + 6, end).trim();
      const byNumber = wanted.vendors.has(vendorId);
      isWanted = byNumber || wanted.vendorNames.has(vendorName);
      if (byNumber) vendors.set(vendorId, vendorName);
    }
    start = end + 1;
  }
  for (const name of twice) numbers.delete(name);
  return { vendors, devices, numbers };
}

/** The database of the system; empty where none is installed. */
export async function readSystemPciIds(
  files: Files,
  functions: readonly PciFunction[],
  root = "",
): Promise<PciIds> {
  const wanted = wantedBy(functions);
  // Dumps with names want nothing of 1.4 MiB.
  if (wanted.vendors.size === 0 && wanted.vendorNames.size === 0) return NO_IDS;
  for (const place of PLACES) {
    try {
      const text = await files.readText(`${root}${place}`, PCI_IDS_BYTES_MAX);
      return scanPciIds(text, functions);
    } catch (error) {
      // Names are a convenience: a missing or unreadable database is no reason to fail.
      if (!(error instanceof PeerlaneError)) throw error;
    }
  }
  return NO_IDS;
}

function named(fn: PciFunction, ids: PciIds): PciFunction {
  if (!lacksName(fn) && !needsNumber(fn)) return fn;
  const found = needsNumber(fn)
    ? ids.numbers.get(nameKey(fn.vendorName as string, fn.deviceName as string))
    : undefined;
  const vendorId = fn.vendorId === UNKNOWN_ID ? (found?.vendorId ?? UNKNOWN_ID) : fn.vendorId;
  const deviceId = isUnknown(fn, "deviceId") ? (found?.deviceId ?? fn.deviceId) : fn.deviceId;
  const vendorName = fn.vendorName ?? ids.vendors.get(vendorId) ?? vendorNameOf(vendorId);
  const deviceName =
    fn.deviceName ??
    ids.devices.get(deviceKey(vendorId, deviceId)) ??
    (deviceId === UNKNOWN_ID ? null : `Device ${hexDigits(deviceId, 4)}`);
  const unknown =
    found === undefined
      ? fn.unknown
      : fn.unknown.filter(({ field }) => field !== "vendorId" && field !== "deviceId");
  return { ...fn, vendorId, deviceId, vendorName, deviceName, unknown };
}

/** The machine with names for numbers and numbers for names, where the database has them. */
export function withNames(machine: Machine, ids: PciIds): Machine {
  return { ...machine, functions: machine.functions.map((fn) => named(fn, ids)) };
}
