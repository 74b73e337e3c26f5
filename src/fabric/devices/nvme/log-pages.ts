/**
 * The controller's log pages (NVM Express Base 2.0, section 5.16.1): error information, SMART,
 * firmware slots, changed namespaces, commands supported and effects, supported log pages.
 */

import { viewOf } from "../../../core/index.ts";
import {
  AdminOpcode,
  allocateStruct,
  CHANGED_NAMESPACES_BYTES,
  CHANGED_NAMESPACES_MAX,
  COMMAND_EFFECTS_BYTES,
  EFFECTS_CSE,
  EFFECTS_CSE_NAMESPACE,
  EFFECTS_CSUPP,
  EFFECTS_IO_OFFSET,
  EFFECTS_LBCC,
  EFFECTS_NCC,
  ERROR_LOG_ENTRY,
  ERROR_NO_COMMAND,
  ErrorLog,
  FIRMWARE_SLOT_LOG,
  FirmwareSlot,
  LOCATION_NONE,
  LogPage,
  NSID_ALL,
  NvmOpcode,
  SMART_DATA_UNIT_BYTES,
  SMART_LOG,
  SMART_WARNING_TEMPERATURE,
  Smart,
} from "../../../spec/nvme/index.ts";
import type { Command } from "./command.hot.ts";
import { Counter } from "./io-commands.hot.ts";

export const ADMIN_SUPPORTED: readonly number[] = [
  AdminOpcode.deleteIoSq,
  AdminOpcode.createIoSq,
  AdminOpcode.getLogPage,
  AdminOpcode.deleteIoCq,
  AdminOpcode.createIoCq,
  AdminOpcode.identify,
  AdminOpcode.abort,
  AdminOpcode.setFeatures,
  AdminOpcode.getFeatures,
  AdminOpcode.asyncEventRequest,
  AdminOpcode.formatNvm,
];

const IO_READING: readonly number[] = [
  NvmOpcode.flush,
  NvmOpcode.read,
  NvmOpcode.compare,
  NvmOpcode.verify,
];
const IO_WRITING: readonly number[] = [
  NvmOpcode.write,
  NvmOpcode.writeZeroes,
  NvmOpcode.datasetManagement,
  NvmOpcode.copy,
];

const LOGS_SUPPORTED: readonly number[] = [
  LogPage.supportedLogPages,
  LogPage.errorInformation,
  LogPage.smart,
  LogPage.firmwareSlot,
  LogPage.changedNamespaces,
  LogPage.commandEffects,
];

/** The last errors, newest first when read. */
export class ErrorHistory {
  /** Errors since the model was made. */
  count = 0;
  private readonly entries: number;
  private readonly ring: Uint8Array;
  private readonly view: DataView;

  constructor(entries: number) {
    this.entries = entries;
    this.ring = new Uint8Array(entries * ERROR_LOG_ENTRY.sizeBytes);
    this.view = viewOf(this.ring);
  }

  /** An error that a command reported. */
  recordCommand(command: Command, sqid: number, status: number): void {
    const base = this.next();
    ErrorLog.SQID.set(this.view, sqid, base);
    ErrorLog.CID.set(this.view, command.cid, base);
    ErrorLog.STATUS.set(this.view, status << 1, base);
    ErrorLog.NSID.set(this.view, command.nsid, base);
    ErrorLog.OPC.set(this.view, command.opcode, base);
    const { slba } = command;
    if (sqid > 0 && slba < 2 ** 53) ErrorLog.LBA.set(this.view, slba, base);
  }

  /** An error that belongs to a queue, not to a command. */
  recordQueue(qid: number, status: number): void {
    const base = this.next();
    ErrorLog.SQID.set(this.view, qid, base);
    ErrorLog.CID.set(this.view, ERROR_NO_COMMAND, base);
    ErrorLog.STATUS.set(this.view, status << 1, base);
  }

  page(): Uint8Array {
    const size = ERROR_LOG_ENTRY.sizeBytes;
    const page = new Uint8Array(this.ring.length);
    const kept = Math.min(this.count, this.entries);
    for (let i = 0; i < kept; i++) {
      const slot = (this.count - 1 - i) % this.entries;
      page.set(this.ring.subarray(slot * size, (slot + 1) * size), i * size);
    }
    return page;
  }

  private next(): number {
    const base = (this.count % this.entries) * ERROR_LOG_ENTRY.sizeBytes;
    this.ring.fill(0, base, base + ERROR_LOG_ENTRY.sizeBytes);
    this.count++;
    ErrorLog.ERROR_COUNT.set(this.view, this.count, base);
    ErrorLog.LOCATION.set(this.view, LOCATION_NONE, base);
    ErrorLog.VERSION.set(this.view, 1, base);
    return base;
  }
}

/** What SMART reports besides the counters of the I/O commands. */
export interface Health {
  temperature: number;
  temperatureOver: number;
  temperatureUnder: number;
  powerOnHours: number;
  errorEntries: number;
}

export function smartPage(counters: Float64Array, health: Health): Uint8Array {
  const { bytes, view } = allocateStruct(SMART_LOG.sizeBytes);
  const { temperature, temperatureOver, temperatureUnder } = health;
  const hot = temperature >= temperatureOver || temperature < temperatureUnder;
  const counter = (index: number): number => counters[index] as number;
  const units = (index: number): number => Math.ceil(counter(index) / SMART_DATA_UNIT_BYTES);
  Smart.CRITICAL_WARNING.set(view, hot ? SMART_WARNING_TEMPERATURE : 0);
  Smart.TEMPERATURE.set(view, temperature);
  Smart.AVAILABLE_SPARE.set(view, 100);
  Smart.SPARE_THRESHOLD.set(view, 10);
  Smart.DATA_UNITS_READ.set(view, units(Counter.bytesRead));
  Smart.DATA_UNITS_WRITTEN.set(view, units(Counter.bytesWritten));
  Smart.HOST_READS.set(view, counter(Counter.hostReads));
  Smart.HOST_WRITES.set(view, counter(Counter.hostWrites));
  Smart.POWER_CYCLES.set(view, 1);
  Smart.POWER_ON_HOURS.set(view, health.powerOnHours);
  Smart.MEDIA_ERRORS.set(view, counter(Counter.mediaErrors));
  Smart.ERROR_ENTRIES.set(view, health.errorEntries);
  return bytes;
}

export function firmwareSlotPage(revision: string): Uint8Array {
  const { bytes, view } = allocateStruct(FIRMWARE_SLOT_LOG.sizeBytes);
  FirmwareSlot.AFI.set(view, 1);
  FirmwareSlot.FRS.set(view, new TextEncoder().encode(revision.padEnd(8, " ")));
  return bytes;
}

export function commandEffectsPage(): Uint8Array {
  const { bytes, view } = allocateStruct(COMMAND_EFFECTS_BYTES);
  const supported = EFFECTS_CSUPP.set(0, 1);
  const writes = EFFECTS_LBCC.set(supported, 1);
  const formats = EFFECTS_CSE.set(EFFECTS_NCC.set(writes, 1), EFFECTS_CSE_NAMESPACE);
  for (const opcode of ADMIN_SUPPORTED) view.setUint32(4 * opcode, supported, true);
  view.setUint32(4 * AdminOpcode.formatNvm, formats, true);
  for (const opcode of IO_READING) view.setUint32(EFFECTS_IO_OFFSET + 4 * opcode, supported, true);
  for (const opcode of IO_WRITING) view.setUint32(EFFECTS_IO_OFFSET + 4 * opcode, writes, true);
  return bytes;
}

export function changedNamespacesPage(changed: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(CHANGED_NAMESPACES_BYTES);
  const view = viewOf(bytes);
  const listed = changed.length > CHANGED_NAMESPACES_MAX ? [NSID_ALL] : changed;
  listed.forEach((nsid, i) => {
    view.setUint32(4 * i, nsid, true);
  });
  return bytes;
}

/** One dword per log page: bit 0 supported, bit 1 takes an index offset. */
export function supportedLogsPage(): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = viewOf(bytes);
  for (const lid of LOGS_SUPPORTED) view.setUint32(4 * lid, 1, true);
  return bytes;
}
