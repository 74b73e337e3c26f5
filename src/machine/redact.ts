/**
 * Takes out of configuration space what identifies one device: the Device Serial Number capability
 * (often made from a MAC address) and the data register of Vital Product Data, which holds the four
 * bytes of it that were read last. Everything else there is the same in all devices of a kind.
 *
 * Leaves out: vendor-specific capabilities, whose layout nobody can know.
 */

import {
  CapabilityId,
  ExtendedId,
  walkCapabilities,
  walkExtendedCapabilities,
} from "../spec/pcie/index.ts";
import type { PciFunction } from "./snapshot.ts";

/** PCIe Base 6.0 section 7.9.3: two dwords after the header of the capability. */
const SERIAL_NUMBER_OFFSET = 4;
const SERIAL_NUMBER_BYTES = 8;
/** PCI Local Bus 3.0 appendix I: id, next, address and flag, then data. */
const VPD_DATA_OFFSET = 4;
const VPD_DATA_BYTES = 4;

/** A copy with those bytes zeroed, or the same array when there are none. */
export function redactConfig(config: Uint8Array): Uint8Array {
  const places: [number, number][] = [];
  for (const { id, offset } of walkCapabilities(config).capabilities) {
    if (id === CapabilityId.vitalProductData)
      places.push([offset + VPD_DATA_OFFSET, VPD_DATA_BYTES]);
  }
  for (const { id, offset } of walkExtendedCapabilities(config).capabilities) {
    if (id === ExtendedId.deviceSerialNumber) {
      places.push([offset + SERIAL_NUMBER_OFFSET, SERIAL_NUMBER_BYTES]);
    }
  }
  if (places.length === 0) return config;
  const copy = new Uint8Array(config);
  for (const [at, bytes] of places) copy.fill(0, at, at + bytes);
  return copy;
}

/** The function with its configuration space redacted. */
export function redactFunction(fn: PciFunction): PciFunction {
  return fn.config === null ? fn : { ...fn, config: redactConfig(fn.config) };
}
