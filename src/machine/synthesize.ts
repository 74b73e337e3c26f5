/**
 * Configuration space from facts: 4096 bytes that decode to what the snapshot says. Where the dump
 * had bytes they are kept, and only what differs from the facts (an edit, text that completed a
 * short dump) is written; without bytes the header, both capability lists and the capabilities that
 * the snapshot knows are made.
 *
 * Invariants: `factsFromConfig` of the result gives the facts back; the input is not changed.
 * Leaves out: bodies of capabilities of which the snapshot keeps only the id: they are listed,
 * empty. A virtual function's ids are written as its driver sees them, not as the all-ones it has
 * on the bus.
 */

import { CAPABILITIES_MAX } from "../core/index.ts";
import {
  AcsBit,
  type AcsRegisters,
  ATS_BYTES,
  BridgeHeader,
  barOffset,
  CapabilityId,
  CONFIG_HEADER_BYTES,
  CONFIG_PCI_BYTES,
  CONFIG_PCIE_BYTES,
  Command,
  decodeAcs,
  decodeBridgeWindows,
  decodeExpress,
  decodeMsiX,
  decodeResizableBars,
  decodeSriov,
  EXPRESS_V1_BYTES,
  ExtendedId,
  encodeAcs,
  encodeAerReset,
  encodeAts,
  encodeBarRegister,
  encodeBridgeWindows,
  encodeExpress,
  encodeMsiX,
  encodeResizableBars,
  encodeSriov,
  findExtendedCapability,
  Header,
  HeaderType,
  MSIX_BYTES,
  readLe16,
  resizableBarBytes,
  Status,
  walkCapabilities,
  walkExtendedCapabilities,
  writeCapabilityHeader,
  writeExtendedHeader,
  writeLe16,
} from "../spec/pcie/index.ts";
import type { Bar, BridgeFacts, PciFunction } from "./snapshot.ts";

/** An entry of a list that is to be written. */
interface Place {
  readonly id: number;
  readonly offset: number;
  readonly version: number;
}

/** Facts that compare equal are not written, so that other bits of their registers stay. */
const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

function writeHeader(config: Uint8Array, fn: PciFunction): void {
  writeLe16(config, Header.vendorId, fn.vendorId);
  writeLe16(config, Header.deviceId, fn.deviceId);
  const fallback = Command.memorySpaceEnable.bits | Command.busMasterEnable.bits;
  writeLe16(config, Header.command, fn.command ?? fallback);
  config[Header.revision] = fn.revision;
  config[Header.classCode] = fn.classCode & 0xff;
  writeLe16(config, Header.classCode + 1, fn.classCode >>> 8);
  config[Header.headerType] = fn.headerType | (fn.multiFunction ? 0x80 : 0);
  if (fn.headerType === HeaderType.endpoint) {
    if (fn.subsystemVendorId !== null) {
      writeLe16(config, Header.subsystemVendorId, fn.subsystemVendorId);
    }
    if (fn.subsystemId !== null) writeLe16(config, Header.subsystemId, fn.subsystemId);
  }
}

function writeBars(config: Uint8Array, fn: PciFunction): void {
  // On the bus a virtual function's BARs read zero; they are in its physical function's SR-IOV.
  if (fn.physicalFunction !== null) return;
  for (const bar of fn.bars) {
    const offset = barOffset(fn.headerType, bar.index);
    // A BAR that text told and the register does not hold stays out.
    const isHeld = fn.config === null || bar.enabled || readLe16(config, offset) !== 0;
    if (offset < 0 || !isHeld) continue;
    encodeBarRegister(config, offset, registerOf(bar));
  }
}

const registerOf = (bar: Bar): Bar & { decodes: boolean } => ({ ...bar, decodes: bar.enabled });

function writeBridge(config: Uint8Array, fn: PciFunction, bridge: BridgeFacts): void {
  config[BridgeHeader.primaryBus] = bridge.primary;
  config[BridgeHeader.secondaryBus] = bridge.secondary;
  config[BridgeHeader.subordinateBus] = bridge.subordinate;
  writeLe16(config, BridgeHeader.bridgeControl, bridge.bridgeControl);
  if (fn.headerType !== HeaderType.bridge) return;
  const { io, memory, prefetchable } = bridge;
  const isThere =
    fn.config !== null && equal(decodeBridgeWindows(config), { io, memory, prefetchable });
  if (!isThere) encodeBridgeWindows(config, { io, memory, prefetchable });
}

/** Capabilities of one list: those the snapshot lists and those it has facts of. */
function placesOf(fn: PciFunction, isExtended: boolean): Place[] {
  const places = new Map<number, Place>();
  for (const { id, offset, extended, version } of fn.capabilities) {
    if (extended === isExtended) places.set(offset, { id, offset, version });
  }
  const add = (offset: number | null | undefined, id: number, version: number): void => {
    if (offset != null && offset > 0 && !places.has(offset)) {
      places.set(offset, { id, offset, version });
    }
  };
  if (isExtended) {
    add(fn.aerOffset, ExtendedId.aer, 2);
    add(fn.acs?.offset, ExtendedId.acs, 1);
    add(fn.sriov?.offset, ExtendedId.sriov, 1);
  } else {
    add(fn.pcie?.offset, CapabilityId.express, 0);
    add(fn.msix?.offset, CapabilityId.msiX, 0);
  }
  const floor = isExtended ? CONFIG_PCI_BYTES : CONFIG_HEADER_BYTES;
  const ceiling = isExtended ? CONFIG_PCIE_BYTES : CONFIG_PCI_BYTES;
  // The order is that of the list, which need not be that of the places.
  return [...places.values()].filter(
    ({ offset }) => offset >= floor && offset < ceiling && offset % 4 === 0,
  );
}

/** Links the list below 256 unless the bytes already have every entry. */
function writeList(config: Uint8Array, fn: PciFunction): void {
  const places = placesOf(fn, false).slice(0, CAPABILITIES_MAX);
  const present = walkCapabilities(config).capabilities;
  const isThere = places.every(({ id, offset }) =>
    present.some((capability) => capability.id === id && capability.offset === offset),
  );
  if (isThere || places.length === 0) return;
  const status = readLe16(config, Header.status) | Status.capabilitiesList.bits;
  writeLe16(config, Header.status, status);
  config[Header.capabilitiesPointer] = (places[0] as Place).offset;
  places.forEach(({ id, offset }, i) => {
    writeCapabilityHeader(config, offset, id, places[i + 1]?.offset ?? 0);
  });
}

/** Links the extended list unless the bytes already have every entry. */
function writeExtendedList(config: Uint8Array, fn: PciFunction): void {
  const places = placesOf(fn, true);
  const present = walkExtendedCapabilities(config).capabilities;
  const isThere = places.every(({ id, offset }) =>
    present.some((capability) => capability.id === id && capability.offset === offset),
  );
  if (isThere || places.length === 0) return;
  // The list begins at 256; a null capability there leads on when nothing else stands there.
  const first = places.findIndex(({ offset }) => offset === CONFIG_PCI_BYTES);
  const start = { id: 0, offset: CONFIG_PCI_BYTES, version: 0 };
  places.unshift(first < 0 ? start : (places.splice(first, 1)[0] as Place));
  places.forEach(({ id, offset, version }, i) => {
    writeExtendedHeader(
      config,
      offset,
      id,
      version || (id === 0 ? 0 : 1),
      places[i + 1]?.offset ?? 0,
    );
  });
}

/** True when a capability of that many bytes at that place is inside configuration space. */
const fits = (offset: number, bytes: number, limit: number): boolean =>
  offset >= CONFIG_HEADER_BYTES && offset + bytes <= limit;

function writeCapabilities(config: Uint8Array, fn: PciFunction): void {
  const { pcie, msix } = fn;
  if (pcie !== null && fits(pcie.offset, EXPRESS_V1_BYTES, CONFIG_PCI_BYTES)) {
    if (!equal(decodeExpress(config, pcie.offset), pcie)) encodeExpress(config, pcie);
  }
  if (msix !== null && fits(msix.offset, MSIX_BYTES, CONFIG_PCI_BYTES)) {
    if (!equal(decodeMsiX(config, msix.offset), msix)) encodeMsiX(config, msix);
  }
  writeAcs(config, fn);
  writeSriov(config, fn);
  if (fn.ats !== null) {
    const ats = findExtendedCapability(config, ExtendedId.ats);
    if (fits(ats, ATS_BYTES, CONFIG_PCIE_BYTES)) encodeAts(config, ats, fn.ats.enabled);
  }
  writeResizableBars(config, fn.resizableBars);
  const isNewAer = (fn.config?.length ?? 0) <= CONFIG_PCI_BYTES && fn.aerOffset !== null;
  if (isNewAer && fn.aerOffset !== null && fn.aerOffset >= CONFIG_PCI_BYTES) {
    encodeAerReset(config, fn.aerOffset);
  }
}

function writeResizableBars(config: Uint8Array, bars: PciFunction["resizableBars"]): void {
  if (bars.length === 0) return;
  const offset = findExtendedCapability(config, ExtendedId.resizableBar);
  if (!fits(offset, resizableBarBytes(bars.length), CONFIG_PCIE_BYTES)) return;
  if (!equal(decodeResizableBars(config, offset), bars)) encodeResizableBars(config, offset, bars);
}

function writeAcs(config: Uint8Array, fn: PciFunction): void {
  if (fn.acs === null || fn.acs.offset < CONFIG_PCI_BYTES) return;
  let acs: AcsRegisters = fn.acs;
  const isUnsized = (acs.capabilities & AcsBit.egressControl) !== 0 && acs.egressVector === null;
  // Text tells EC and no vector: one word of it, all clear, instead of the 256 bits that 0 means.
  if (isUnsized)
    acs = { ...acs, capabilities: (acs.capabilities & 0xff) | 0x2000, egressVector: [0] };
  if (!equal(decodeAcs(config, acs.offset), acs)) encodeAcs(config, acs);
}

function writeSriov(config: Uint8Array, fn: PciFunction): void {
  if (fn.sriov === null || fn.sriov.offset < CONFIG_PCI_BYTES) return;
  const wanted = { ...fn.sriov, bars: fn.sriov.bars.map(registerOf) };
  const present = decodeSriov(config, fn.sriov.offset);
  const shape = (bars: readonly { index: number; address: number }[]): unknown =>
    bars.map(({ index, address }) => [index, address]);
  const isThere =
    present !== null &&
    equal({ ...present, bars: shape(present.bars) }, { ...wanted, bars: shape(wanted.bars) });
  if (!isThere) encodeSriov(config, wanted);
}

/** The 4096 bytes of configuration space of a function as the snapshot states it. */
export function synthesizeConfig(fn: PciFunction): Uint8Array {
  const config = new Uint8Array(CONFIG_PCIE_BYTES);
  if (fn.config !== null) config.set(fn.config.subarray(0, CONFIG_PCIE_BYTES));
  writeHeader(config, fn);
  writeBars(config, fn);
  if (fn.bridge !== null) writeBridge(config, fn, fn.bridge);
  writeList(config, fn);
  writeExtendedList(config, fn);
  writeCapabilities(config, fn);
  return config;
}

/** The function with its bytes, as long as the dump's were, made to agree with its facts. */
export function withFreshConfig(fn: PciFunction): PciFunction {
  if (fn.config === null) return fn;
  return { ...fn, config: synthesizeConfig(fn).slice(0, fn.config.length) };
}
