/**
 * Facts of a function from its configuration space, 64, 256 or 4096 bytes of it. What the bytes do
 * not reach is listed as unknown; sizes of BARs never are in them.
 *
 * Invariants: never throws on any content; `config` of the result is the given array, not a copy.
 */

import { type Bdf, isAddress } from "../core/index.ts";
import {
  type BarRegister,
  BridgeHeader,
  CapabilityId,
  type CapabilityList,
  CONFIG_HEADER_BYTES,
  CONFIG_PCI_BYTES,
  Command,
  decodeAcs,
  decodeAts,
  decodeBridgeWindows,
  decodeExpress,
  decodeHeaderBars,
  decodeMsiX,
  decodeResizableBars,
  decodeSriov,
  ExtendedId,
  HEADER_LAYOUT,
  HEADER_MULTI_FUNCTION,
  Header,
  HeaderType,
  readLe16,
  walkCapabilities,
  walkExtendedCapabilities,
} from "../spec/pcie/index.ts";
import { blankFunction, type FunctionDraft, UNKNOWN_ID, unknownField } from "./blank.ts";
import { classNameOf } from "./classes.ts";
import type { Bar, BridgeFacts, PciFunction, ResizableBar, Unknown, Window } from "./snapshot.ts";

/** Fields that only the first 256 bytes tell. */
const FIELDS_BELOW_256 = ["pcie", "msix", "capabilities"];
/** Fields that only extended configuration space tells. */
const FIELDS_ABOVE_256 = ["acs", "aerOffset", "sriov", "ats", "resizableBars"];
/** Fields that the system knows and no register does. */
const FIELDS_OF_SYSTEM = ["numaNode", "iommuGroup", "driver"];
const ROM_INDEX = 6;

/** True for a BAR register whose address this project can use. */
function isUsable(register: BarRegister): boolean {
  return isAddress(register.address) && register.address !== 0;
}

/** Whether the command register lets a BAR of this kind answer. */
export function barDecodes(kind: Bar["kind"], command: number): boolean {
  const bit = kind === "io" ? Command.ioSpaceEnable : Command.memorySpaceEnable;
  return bit.get(command) === 1;
}

/** BARs from their registers; sizes are unknown and go to `unknown` under `${prefix}bars[n]`. */
function barsFrom(
  registers: readonly BarRegister[],
  command: number | null,
  prefix: string,
  unknown: Unknown[],
): Bar[] {
  return registers.map((register) => {
    const { index, kind, prefetchable, decodes } = register;
    const field = `${prefix}bars[${index}]`;
    unknown.push(unknownField(`${field}.sizeBytes`));
    if (!isAddress(register.address)) unknown.push(unknownField(`${field}.address`));
    const enabled =
      decodes && isUsable(register) && (command === null || barDecodes(kind, command));
    const address = isAddress(register.address) ? register.address : 0;
    return { index, kind, prefetchable, address, sizeBytes: null, enabled };
  });
}

function bridgeFrom(config: Uint8Array, headerType: number): BridgeFacts {
  const usable = (window: Window | null): Window | null =>
    window !== null && isAddress(window.limit) ? window : null;
  const windows =
    headerType === HeaderType.bridge
      ? decodeBridgeWindows(config)
      : { io: null, memory: null, prefetchable: null };
  return {
    primary: config[BridgeHeader.primaryBus] as number,
    secondary: config[BridgeHeader.secondaryBus] as number,
    subordinate: config[BridgeHeader.subordinateBus] as number,
    io: windows.io,
    memory: windows.memory,
    prefetchable: usable(windows.prefetchable),
    bridgeControl: readLe16(config, BridgeHeader.bridgeControl),
  };
}

/** A function that answered all ones: gone, asleep or not accessible. */
function isSilent(config: Uint8Array): boolean {
  for (let i = 0; i < CONFIG_HEADER_BYTES; i++) if (config[i] !== 0xff) return false;
  return true;
}

/**
 * Facts of function `bdf`.
 * @param config at least 64 bytes
 */
export function factsFromConfig(bdf: Bdf, config: Uint8Array): PciFunction {
  const fn = blankFunction(bdf);
  const unknown: Unknown[] = FIELDS_OF_SYSTEM.map((field) =>
    unknownField(field, "configuration space does not tell"),
  );
  fn.config = config;
  if (isSilent(config)) {
    const reason = "the function answered all ones when it was dumped";
    const fields = ["vendorId", "deviceId", "classCode", "command", "bars", "bridge"];
    for (const field of [...fields, ...FIELDS_BELOW_256, ...FIELDS_ABOVE_256]) {
      unknown.push(unknownField(field, reason));
    }
    fn.unknown = unknown;
    return fn;
  }
  const layout = config[Header.headerType] as number;
  fn.headerType = HEADER_LAYOUT.get(layout);
  fn.multiFunction = HEADER_MULTI_FUNCTION.get(layout) === 1;
  fn.vendorId = readLe16(config, Header.vendorId);
  fn.deviceId = readLe16(config, Header.deviceId);
  if (fn.vendorId === UNKNOWN_ID) unknown.push(unknownField("vendorId"));
  if (fn.deviceId === UNKNOWN_ID) unknown.push(unknownField("deviceId"));
  fn.revision = config[Header.revision] as number;
  const subClass = readLe16(config, Header.classCode + 1);
  fn.classCode = subClass * 256 + (config[Header.classCode] as number);
  fn.className = classNameOf(fn.classCode);
  fn.command = readLe16(config, Header.command);
  fn.bars = barsFrom(decodeHeaderBars(config, fn.headerType), fn.command, "", unknown);
  if (fn.headerType === HeaderType.endpoint) {
    fn.subsystemVendorId = readLe16(config, Header.subsystemVendorId);
    fn.subsystemId = readLe16(config, Header.subsystemId);
  } else if (fn.headerType <= HeaderType.cardBus) {
    fn.bridge = bridgeFrom(config, fn.headerType);
  }
  readCapabilities(fn, config, unknown);
  fn.unknown = unknown;
  return fn;
}

function firstOf(list: CapabilityList, id: number): number {
  return list.capabilities.find((capability) => capability.id === id)?.offset ?? -1;
}

/** Reason for what a list that ended early leaves unknown; empty when it is complete. */
function reasonFor(list: CapabilityList, config: Uint8Array, what: string): string {
  if (list.end === "complete") return "";
  if (list.end === "truncated") return `the dump has only ${config.length} bytes of ${what}`;
  return `the ${what} list of capabilities is broken`;
}

function readCapabilities(fn: FunctionDraft, config: Uint8Array, unknown: Unknown[]): void {
  const list = walkCapabilities(config);
  const express = firstOf(list, CapabilityId.express);
  const msix = firstOf(list, CapabilityId.msiX);
  if (express >= 0) fn.pcie = decodeExpress(config, express);
  if (msix >= 0) fn.msix = decodeMsiX(config, msix);
  fn.capabilities = list.capabilities;
  const reason = reasonFor(list, config, "configuration space");
  if (reason !== "") {
    for (const field of FIELDS_BELOW_256) {
      const isKnown = (field === "pcie" && fn.pcie) || (field === "msix" && fn.msix);
      if (!isKnown) unknown.push(unknownField(field, reason));
    }
  }
  // Only PCI Express functions have extended space, so without the capability there is none.
  const mayBeExtended = express >= 0 || reason !== "";
  if (!mayBeExtended) return;
  if (config.length <= CONFIG_PCI_BYTES || reason !== "") {
    const why = reason || "no extended configuration space in the dump";
    for (const field of FIELDS_ABOVE_256) unknown.push(unknownField(field, why));
    return;
  }
  readExtended(fn, config, unknown);
}

function readExtended(fn: FunctionDraft, config: Uint8Array, unknown: Unknown[]): void {
  const list = walkExtendedCapabilities(config);
  fn.capabilities = [...fn.capabilities, ...list.capabilities];
  const acs = firstOf(list, ExtendedId.acs);
  const aer = firstOf(list, ExtendedId.aer);
  const sriov = firstOf(list, ExtendedId.sriov);
  const ats = firstOf(list, ExtendedId.ats);
  const rebar = firstOf(list, ExtendedId.resizableBar);
  if (acs >= 0) fn.acs = decodeAcs(config, acs);
  if (aer >= 0) fn.aerOffset = aer;
  if (ats >= 0) fn.ats = decodeAts(config, ats);
  if (rebar >= 0) fn.resizableBars = resizableFrom(config, rebar);
  const registers = sriov >= 0 ? decodeSriov(config, sriov) : null;
  if (registers !== null) {
    const command = registers.vfEnable ? null : 0;
    const bars = barsFrom(registers.bars, command, "sriov.", unknown);
    const sizes = firstOf(list, ExtendedId.vfResizableBar);
    const resizable = sizes >= 0 ? resizableFrom(config, sizes) : [];
    fn.sriov = { ...registers, bars: withSizes(bars, resizable, "sriov.", unknown) };
  }
  fn.bars = withSizes(fn.bars, fn.resizableBars, "", unknown);
  const reason = reasonFor(list, config, "extended configuration space");
  if (reason === "") return;
  const found: Record<string, boolean> = {
    acs: acs >= 0,
    aerOffset: aer >= 0,
    sriov: sriov >= 0,
    ats: ats >= 0,
    resizableBars: rebar >= 0,
  };
  for (const field of FIELDS_ABOVE_256) {
    if (found[field] === false) unknown.push(unknownField(field, reason));
  }
}

function resizableFrom(config: Uint8Array, offset: number): ResizableBar[] {
  return (decodeResizableBars(config, offset) ?? []).filter(({ index }) => index < ROM_INDEX);
}

/**
 * A resizable BAR is the one kind whose size configuration space does tell. Removes the entries
 * under `${prefix}bars[n]` of those that get theirs.
 */
export function withSizes(
  bars: readonly Bar[],
  resizable: readonly ResizableBar[],
  prefix: string,
  unknown: Unknown[],
): Bar[] {
  return bars.map((bar) => {
    const size = resizable.find(({ index }) => index === bar.index)?.currentBytes ?? 0;
    // A size that its own address contradicts is a misread; leave it unknown.
    if (size === 0 || bar.address % size !== 0 || bar.kind === "io") return bar;
    const at = unknown.findIndex(({ field }) => field === `${prefix}bars[${bar.index}].sizeBytes`);
    if (at >= 0) unknown.splice(at, 1);
    return { ...bar, sizeBytes: size };
  });
}
