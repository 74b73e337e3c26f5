/**
 * Log pages of the target. NVM Express Base Specification 2.0, section 5.16. Each page is built
 * whole when it is asked for; Get Log Page then cuts out what the host wants.
 *
 * Leaves out: telemetry, endurance groups, persistent events, device self-test.
 */

import { viewOf } from "../../core/index.ts";
import {
  AdminOpcode,
  ANA_GROUP,
  ANA_HEADER,
  AnaGroup,
  AnaHeader,
  allocateStruct,
  CHANGED_NAMESPACES_BYTES,
  CHANGED_NAMESPACES_MAX,
  COMMAND_EFFECTS_BYTES,
  EFFECTS_CSUPP,
  EFFECTS_IO_OFFSET,
  EFFECTS_LBCC,
  FIRMWARE_SLOT_LOG,
  FirmwareSlot,
  LogPage,
  NSID_ALL,
  NvmOpcode,
  ONCS_COMPARE,
  ONCS_VERIFY,
  ONCS_WRITE_ZEROES,
  SMART_DATA_UNIT_BYTES,
  SMART_LOG,
  SMART_WARNING_TEMPERATURE,
  Smart,
} from "../../spec/nvme/index.ts";
import { FABRICS_OPCODE } from "../../spec/nvmf/index.ts";
import type { Namespace } from "../namespace.ts";
import type { Port } from "../port.ts";
import { TEMPERATURE_K } from "./feature-values.ts";
import { optionalCommands } from "./identify.ts";

const NS_PER_HOUR = 3600e9;
const SPARE_PERCENT = 100;
/** Bytes of Supported Log Pages: one dword for each identifier. */
const SUPPORTED_LOGS_BYTES = 1024;
/** LSUPP of Supported Log Pages. */
const LOG_SUPPORTED = 1;

const NVM_LOGS: readonly number[] = [
  LogPage.supportedLogPages,
  LogPage.errorInformation,
  LogPage.smart,
  LogPage.firmwareSlot,
  LogPage.changedNamespaces,
  LogPage.commandEffects,
  LogPage.ana,
  LogPage.reservationNotification,
];
const DISCOVERY_LOGS: readonly number[] = [
  LogPage.supportedLogPages,
  LogPage.errorInformation,
  LogPage.discovery,
];

/** LID 00h. */
export function supportedLogs(isDiscovery: boolean): Uint8Array {
  const { bytes, view } = allocateStruct(SUPPORTED_LOGS_BYTES);
  for (const lid of isDiscovery ? DISCOVERY_LOGS : NVM_LOGS) {
    view.setUint32(lid * 4, LOG_SUPPORTED, true);
  }
  return bytes;
}

/** What the controller tells of itself. */
export interface SmartFacts {
  readonly errors: number;
  readonly isTemperatureWarning: boolean;
  /** Nanoseconds since the target started. */
  readonly upNs: number;
}

/** LID 02h, of all namespaces or of one. */
export function smartLog(namespaces: readonly Namespace[], facts: SmartFacts): Uint8Array {
  const { bytes, view } = allocateStruct(SMART_LOG.sizeBytes);
  const sum = (of: (namespace: Namespace) => number): number =>
    namespaces.reduce((total, namespace) => total + of(namespace), 0);
  const units = (n: number): number => Math.ceil(n / SMART_DATA_UNIT_BYTES);
  Smart.TEMPERATURE.set(view, TEMPERATURE_K);
  Smart.AVAILABLE_SPARE.set(view, SPARE_PERCENT);
  Smart.DATA_UNITS_READ.set(view, units(sum(({ readBytes }) => readBytes)));
  Smart.DATA_UNITS_WRITTEN.set(view, units(sum(({ writtenBytes }) => writtenBytes)));
  Smart.HOST_READS.set(
    view,
    sum(({ reads }) => reads),
  );
  Smart.HOST_WRITES.set(
    view,
    sum(({ writes }) => writes),
  );
  Smart.ERROR_ENTRIES.set(view, facts.errors);
  Smart.POWER_ON_HOURS.set(view, Math.floor(facts.upNs / NS_PER_HOUR));
  if (facts.isTemperatureWarning) {
    Smart.CRITICAL_WARNING.set(view, SMART_WARNING_TEMPERATURE);
  }
  return bytes;
}

/** LID 03h: one slot, read only, active. */
export function firmwareLog(firmware: string): Uint8Array {
  const { bytes, view } = allocateStruct(FIRMWARE_SLOT_LOG.sizeBytes);
  FirmwareSlot.AFI.set(view, 1);
  const revision = new TextEncoder().encode(firmware.padEnd(8).slice(0, 8));
  FirmwareSlot.FRS.set(view, revision);
  return bytes;
}

/** LID 04h. */
export function changedNamespaces(changed: ReadonlySet<number>): Uint8Array {
  const { bytes, view } = allocateStruct(CHANGED_NAMESPACES_BYTES);
  if (changed.size > CHANGED_NAMESPACES_MAX) {
    view.setUint32(0, NSID_ALL, true);
    return bytes;
  }
  const sorted = [...changed].sort((a, b) => a - b);
  for (const [i, nsid] of sorted.entries()) view.setUint32(i * 4, nsid, true);
  return bytes;
}

/** LID 05h. */
export function commandEffects(namespaces: readonly Namespace[], canCopy: boolean): Uint8Array {
  const { bytes, view } = allocateStruct(COMMAND_EFFECTS_BYTES);
  const supported = EFFECTS_CSUPP.bits;
  const writes = EFFECTS_CSUPP.bits | EFFECTS_LBCC.bits;
  const admin = [
    AdminOpcode.getLogPage,
    AdminOpcode.identify,
    AdminOpcode.abort,
    AdminOpcode.setFeatures,
    AdminOpcode.getFeatures,
    AdminOpcode.asyncEventRequest,
    AdminOpcode.keepAlive,
    FABRICS_OPCODE,
  ];
  for (const opcode of admin) view.setUint32(opcode * 4, supported, true);
  const io = (opcode: number, effects: number): void =>
    view.setUint32(EFFECTS_IO_OFFSET + opcode * 4, effects, true);
  const oncs = optionalCommands(namespaces, canCopy);
  io(NvmOpcode.flush, supported);
  io(NvmOpcode.read, supported);
  io(NvmOpcode.write, writes);
  io(NvmOpcode.datasetManagement, writes);
  io(NvmOpcode.reservationRegister, supported);
  io(NvmOpcode.reservationReport, supported);
  io(NvmOpcode.reservationAcquire, supported);
  io(NvmOpcode.reservationRelease, supported);
  if (canCopy) io(NvmOpcode.copy, writes);
  if ((oncs & ONCS_COMPARE) !== 0) io(NvmOpcode.compare, supported);
  if ((oncs & ONCS_VERIFY) !== 0) io(NvmOpcode.verify, supported);
  if ((oncs & ONCS_WRITE_ZEROES) !== 0) io(NvmOpcode.writeZeroes, writes);
  return bytes;
}

/**
 * LID 0Ch: the groups that these namespaces are in, in the order of their identifiers; without the
 * NSIDs when `groupsOnly` (RGO).
 */
export function anaLog(
  namespaces: readonly Namespace[],
  port: Port,
  groupsOnly: boolean,
): Uint8Array {
  const groups = [...new Set(namespaces.map(({ anaGroup }) => anaGroup))].sort((a, b) => a - b);
  const nsidBytes = groupsOnly ? 0 : 4 * namespaces.length;
  const bytes = new Uint8Array(
    ANA_HEADER.sizeBytes + groups.length * ANA_GROUP.sizeBytes + nsidBytes,
  );
  const view = viewOf(bytes);
  AnaHeader.CHGCNT.set(view, port.anaChangeCount);
  AnaHeader.NGRPS.set(view, groups.length);
  let at = ANA_HEADER.sizeBytes;
  for (const group of groups) {
    const members = groupsOnly ? [] : namespaces.filter(({ anaGroup }) => anaGroup === group);
    AnaGroup.AGID.set(view, group, at);
    AnaGroup.NNSV.set(view, members.length, at);
    AnaGroup.CHGCNT.set(view, port.anaGroupChangeCount(group), at);
    AnaGroup.STATE.set(view, port.anaState(group), at);
    at += ANA_GROUP.sizeBytes;
    for (const { nsid } of members) {
      view.setUint32(at, nsid, true);
      at += 4;
    }
  }
  return bytes;
}

/**
 * What Get Log Page returns of a page: `length` bytes from `offset`, zeros beyond its end. Null
 * when the offset is beyond the page or not a multiple of 4.
 */
export function cutLog(page: Uint8Array, offset: number, length: number): Uint8Array | null {
  if (offset % 4 !== 0 || offset > page.length) return null;
  const cut = new Uint8Array(length);
  cut.set(page.subarray(offset, offset + length));
  return cut;
}
