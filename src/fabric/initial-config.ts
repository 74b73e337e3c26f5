/**
 * Configuration space as a function has it when the simulation starts: the dumped bytes where the
 * snapshot has them, and bytes made from its facts for the rest.
 *
 * Invariant: what the snapshot states is what the bytes say: whoever reads ACS Control, a window or an
 * MSI-X capability from the simulated function finds the snapshot's.
 *
 * Left out: capabilities of which the snapshot keeps only the id (they are listed with empty bodies).
 */

import { highHalf, lowHalf } from "../core/index.ts";
import type { BridgeFacts, PciFunction, Window } from "../machine/index.ts";
import {
  AcsOffset,
  CapabilityId,
  Command,
  DEVICE_CAPABILITIES_FLR,
  Express,
  ExtendedId,
  Header,
  MSIX_ENABLE,
  MsixOffset,
} from "./config-layout.ts";

const CONFIG_BYTES = 4096;

/** The 4096 bytes a function starts with. */
export function initialConfig(fn: PciFunction): Uint8Array {
  const bytes = new Uint8Array(CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  putHeader(view, fn);
  if (fn.bridge === null) {
    view.setUint16(Header.subsystem, fn.subsystemVendorId ?? 0, true);
    view.setUint16(Header.subsystem + 2, fn.subsystemId ?? 0, true);
  } else {
    putBridge(view, fn.bridge);
  }
  linkCapabilities(view, fn);
  linkExtendedCapabilities(view, fn);
  if (fn.pcie !== null) putExpress(view, fn);
  if (fn.msix !== null) putMsix(view, fn);
  if (fn.acs !== null) putAcs(view, fn);
  if (fn.config !== null) bytes.set(fn.config.subarray(0, CONFIG_BYTES));
  return bytes;
}

function putHeader(view: DataView, fn: PciFunction): void {
  view.setUint16(Header.vendorId, fn.vendorId, true);
  view.setUint16(Header.vendorId + 2, fn.deviceId, true);
  view.setUint16(Header.command, fn.command ?? Command.memorySpace | Command.busMaster, true);
  view.setUint32(Header.revision, fn.revision | (fn.classCode << 8), true);
  view.setUint8(Header.headerType, fn.headerType | (fn.multiFunction ? 0x80 : 0));
  for (const { index, kind, address, prefetchable } of fn.bars) {
    if (index > 5) continue;
    const flags = kind === "io" ? 1 : (kind === "memory64" ? 4 : 0) | (prefetchable ? 8 : 0);
    view.setUint32(Header.bar0 + 4 * index, (lowHalf(address) | flags) >>> 0, true);
    if (kind === "memory64") view.setUint32(Header.bar0 + 4 * index + 4, highHalf(address), true);
  }
}

function putBridge(view: DataView, bridge: BridgeFacts): void {
  view.setUint8(Header.primaryBus, bridge.primary);
  view.setUint8(Header.secondaryBus, bridge.secondary);
  view.setUint8(Header.subordinateBus, bridge.subordinate);
  view.setUint16(Header.bridgeControl, bridge.bridgeControl, true);
  // A closed window has its base above its limit.
  const closed: Window = { base: 0xfff0_0000, limit: 0xf_ffff };
  const memory = bridge.memory ?? closed;
  view.setUint16(Header.memoryBase, Math.floor(memory.base / 2 ** 16) & 0xfff0, true);
  view.setUint16(Header.memoryBase + 2, Math.floor(memory.limit / 2 ** 16) & 0xfff0, true);
  const { base, limit } = bridge.prefetchable ?? closed;
  view.setUint16(Header.prefetchableBase, ((lowHalf(base) >>> 16) & 0xfff0) | 1, true);
  view.setUint16(Header.prefetchableBase + 2, ((lowHalf(limit) >>> 16) & 0xfff0) | 1, true);
  view.setUint32(Header.prefetchableBaseUpper, highHalf(base), true);
  view.setUint32(Header.prefetchableLimitUpper, highHalf(limit), true);
}

/** Where each capability is: as listed, and those that have facts even when no list was kept. */
function placesOf(
  fn: PciFunction,
  extended: boolean,
): Map<number, { id: number; version: number }> {
  const places = new Map<number, { id: number; version: number }>();
  for (const { id, offset, extended: isExtended, version } of fn.capabilities) {
    if (isExtended === extended && offset > 0) places.set(offset, { id, version });
  }
  const add = (offset: number | undefined, id: number): void => {
    if (offset !== undefined && offset > 0) places.set(offset, { id, version: 1 });
  };
  if (extended) {
    add(fn.acs?.offset, ExtendedId.acs);
    add(fn.sriov?.offset, ExtendedId.sriov);
    add(fn.aerOffset ?? undefined, ExtendedId.aer);
  } else {
    add(fn.pcie?.offset, CapabilityId.pciExpress);
    add(fn.msix?.offset, CapabilityId.msix);
  }
  return new Map([...places].sort(([a], [b]) => a - b));
}

function linkCapabilities(view: DataView, fn: PciFunction): void {
  const places = placesOf(fn, false);
  let pointer: number = Header.capabilities;
  for (const [offset, { id }] of places) {
    view.setUint8(pointer, offset);
    view.setUint8(offset, id);
    pointer = offset + 1;
  }
  // Status, Capabilities List.
  if (places.size > 0) view.setUint16(Header.status, 0x10, true);
}

function linkExtendedCapabilities(view: DataView, fn: PciFunction): void {
  const places = [...placesOf(fn, true)];
  if (places.length === 0) return;
  // The list begins at 0x100; an empty entry there leads on when the first real one is elsewhere.
  if (places[0]?.[0] !== 0x100) places.unshift([0x100, { id: 0, version: 1 }]);
  places.forEach(([offset, { id, version }], at) => {
    const next = places[at + 1]?.[0] ?? 0;
    view.setUint32(offset, (id | (version << 16) | (next << 20)) >>> 0, true);
  });
}

function putExpress(view: DataView, fn: PciFunction): void {
  const facts = fn.pcie;
  if (facts === null) return;
  const at = facts.offset;
  const sizeCode = (bytes: number): number => Math.max(0, Math.log2(bytes / 128));
  view.setUint16(at + Express.capabilities, 2 | (facts.portType << 4), true);
  const flr = facts.functionLevelReset ? DEVICE_CAPABILITIES_FLR : 0;
  view.setUint32(at + Express.deviceCapabilities, sizeCode(facts.maxPayloadSupported) | flr, true);
  const control =
    (sizeCode(facts.maxPayload) << 5) |
    (sizeCode(facts.maxReadRequest) << 12) |
    (facts.relaxedOrdering ? 0x10 : 0) |
    (facts.extendedTags ? 0x100 : 0);
  view.setUint16(at + Express.deviceControl, control, true);
  const capability = facts.linkCapability ?? facts.link;
  if (capability !== null) {
    // The port number is not in the snapshot; the device number stands for it.
    const port = (fn.bdf & 0xff) >> 3;
    const word = capability.generation | (capability.width << 4) | (port << 24);
    view.setUint32(at + Express.linkCapabilities, word >>> 0, true);
  }
  view.setUint16(at + Express.linkControl, facts.readCompletionBoundary === 128 ? 8 : 0, true);
  if (facts.link !== null) {
    view.setUint16(at + Express.linkStatus, facts.link.generation | (facts.link.width << 4), true);
  }
}

function putMsix(view: DataView, fn: PciFunction): void {
  const facts = fn.msix;
  if (facts === null) return;
  const control = (facts.vectors - 1) | (facts.enabled ? MSIX_ENABLE : 0);
  view.setUint16(facts.offset + MsixOffset.control, control, true);
  view.setUint32(facts.offset + MsixOffset.table, facts.tableOffset | facts.tableBar, true);
  view.setUint32(facts.offset + MsixOffset.pending, facts.pbaOffset | facts.pbaBar, true);
}

function putAcs(view: DataView, fn: PciFunction): void {
  const facts = fn.acs;
  if (facts === null) return;
  view.setUint16(facts.offset + AcsOffset.capability, facts.capabilities, true);
  view.setUint16(facts.offset + AcsOffset.control, facts.control, true);
  facts.egressVector?.forEach((word, at) => {
    view.setUint32(facts.offset + AcsOffset.egressVector + 4 * at, word >>> 0, true);
  });
}
