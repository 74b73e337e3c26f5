/**
 * Names of PCI functions: domain, bus, device, function, packed in one number so that they index
 * and compare cheaply. Domains reach 32 bits (Intel VMD uses 0x10000 and up), so the packed value
 * exceeds 32 bits and must never meet a bitwise operator; the accessors below divide.
 */

import { hexDigits } from "./addr.ts";
import { UsageError } from "./errors.ts";

declare const bdfBrand: unique symbol;

/** domain * 2^16 + bus * 2^8 + device * 2^3 + function. The low 16 bits are the requester id. */
export type Bdf = number & { readonly [bdfBrand]: "bdf" };

const DOMAIN_LIMIT = 2 ** 32;

/** Packs a function's name. Throws {@link UsageError} when a part is out of range. */
export function makeBdf(domain: number, bus: number, device: number, fn: number): Bdf {
  const inRange =
    domain >= 0 && domain < DOMAIN_LIMIT && bus >= 0 && bus < 256 && device >= 0 && device < 32;
  if (!inRange || fn < 0 || fn > 7) {
    throw new UsageError("bad-bdf", `no PCI function ${domain}:${bus}:${device}.${fn} can exist`, {
      remedy: "domain is 32 bits, bus 0-ff, device 0-1f, function 0-7",
    });
  }
  return (domain * 65536 + bus * 256 + device * 8 + fn) as Bdf;
}

// A fraction to round down would be a number of its own in memory, in code that just started.
export const bdfDomain = (bdf: Bdf): number => (bdf - (bdf % 65536)) / 65536;
/** The 16-bit requester id that a TLP carries. */
export const bdfRequesterId = (bdf: Bdf): number => bdf % 65536;
export const bdfBus = (bdf: Bdf): number => (bdf % 65536) >> 8;
export const bdfDevfn = (bdf: Bdf): number => bdf & 0xff;
export const bdfDevice = (bdf: Bdf): number => (bdf & 0xff) >> 3;
export const bdfFunction = (bdf: Bdf): number => bdf & 7;

/** Domain and bus as one key, for maps of buses. */
export const busKey = (domain: number, bus: number): number => domain * 256 + bus;

/** `0000:18`: a bus. */
export const formatBus = (domain: number, bus: number): string =>
  `${hexDigits(domain, 4)}:${hexDigits(bus, 2)}`;

/** `8086:2030`: which device it is. */
export const formatDeviceId = (vendorId: number, deviceId: number): string =>
  `${hexDigits(vendorId, 4)}:${hexDigits(deviceId, 4)}`;

/** `0000:18:00.0`, as the kernel prints it. */
export function formatBdf(bdf: Bdf): string {
  const bus = formatBus(bdfDomain(bdf), bdfBus(bdf));
  return `${bus}:${hexDigits(bdfDevice(bdf), 2)}.${bdfFunction(bdf)}`;
}

const BDF_PATTERN = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;

/** Parses `[domain:]bus:device.function`; null when the text is something else. */
export function tryParseBdf(text: string): Bdf | null {
  const match = BDF_PATTERN.exec(text.trim());
  if (match === null) return null;
  const device = Number.parseInt(match[3] as string, 16);
  if (device > 31) return null;
  const domain = match[1] === undefined ? 0 : Number.parseInt(match[1], 16);
  return makeBdf(domain, Number.parseInt(match[2] as string, 16), device, Number(match[4]));
}

/** Parses a function's name as a user typed it. Throws {@link UsageError} with the right form. */
export function parseBdf(text: string): Bdf {
  const bdf = tryParseBdf(text);
  if (bdf !== null) return bdf;
  throw new UsageError("bad-bdf", `"${text}" is not the name of a PCI function`, {
    remedy: "write [domain:]bus:device.function in hex, for example 0000:18:00.0 or 18:00.0",
  });
}
