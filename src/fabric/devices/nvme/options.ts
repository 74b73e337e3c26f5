/**
 * What an NVMe controller model is made from, with defaults, checked once: the rest of the room
 * works with a complete {@link NvmeConfig} and does not ask again.
 */

import {
  alignUp,
  type Copier,
  isPowerOfTwo,
  type NamespaceStore,
  NVME_COMMANDS_MAX,
  NVME_IO_QUEUES_MAX,
  NVME_NAMESPACES_MAX,
  UsageError,
} from "../../../core/index.ts";
import { doorbellsEnd } from "../../../spec/nvme/index.ts";
import type { NvmeFaultRule } from "./faults.ts";
import type { NamespaceIdentity } from "./namespace.ts";

export interface NvmeNamespaceOptions {
  /** Bytes of data. Ignored when `store` is given. */
  readonly sizeBytes?: number;
  /** 512 (default) or 4096. */
  readonly lbaBytes?: number;
  /** 0 (default), 8 or 64 bytes per block. */
  readonly metadataBytes?: number;
  /** Metadata follows each block in the data buffer. Default: a buffer of its own. */
  readonly extended?: boolean;
  /** Protection information type, 0 (default) to 3. */
  readonly piType?: number;
  /** Protection information is the first 8 bytes of metadata. Default: the last. */
  readonly piFirst?: boolean;
  /** Where the bytes are. Default: memory of `sizeBytes`. */
  readonly store?: NamespaceStore;
  readonly readOnly?: boolean;
  /** Reported in NMIC: other controllers may reach it. */
  readonly shared?: boolean;
  /** Default: derived from the serial number and the NSID. */
  readonly identity?: NamespaceIdentity;
}

export interface NvmeCmbOptions {
  readonly bar: number;
  /** Of the CMB in its BAR; a multiple of 4 KiB. */
  readonly offset: number;
  /** A multiple of 4 KiB. */
  readonly sizeBytes: number;
  /** What it may hold; all default to true, completion queues too. */
  readonly submissionQueues?: boolean;
  readonly completionQueues?: boolean;
  readonly lists?: boolean;
  readonly readData?: boolean;
  readonly writeData?: boolean;
  /** As before NVM Express 1.4: always visible, known by the addresses of its BAR. */
  readonly legacy?: boolean;
}

export interface NvmePmrOptions {
  /** The whole BAR is the PMR. */
  readonly bar: number;
  readonly sizeBytes: number;
  readonly readData?: boolean;
  readonly writeData?: boolean;
}

export interface NvmeModelOptions {
  /** The fabric's. */
  readonly copier: Copier;
  readonly namespaces: readonly NvmeNamespaceOptions[];
  /** Up to 20 characters. */
  readonly serial?: string;
  /** Up to 40 characters. */
  readonly model?: string;
  /** Up to 8 characters. */
  readonly firmware?: string;
  readonly subnqn?: string;
  readonly vendorId?: number;
  readonly subsystemVendorId?: number;
  readonly controllerId?: number;
  readonly cmb?: NvmeCmbOptions | null;
  readonly pmr?: NvmePmrOptions | null;
  /** MDTS: 2^n pages of 4 KiB per command; 0 is no limit. Default 8: 1 MiB. */
  readonly mdts?: number;
  /** I/O queue pairs. Default 64. */
  readonly maxQueues?: number;
  /** Entries of an I/O queue. Default 1024. */
  readonly maxEntries?: number;
  /** Doorbell stride: 4 << n bytes. Default 0. */
  readonly dstrd?: number;
  /** SGLs for I/O commands. Default true. */
  readonly sgl?: boolean;
  /** A volatile write cache that Flush empties. Default true. */
  readonly volatileWriteCache?: boolean;
  /** MSI-X vectors. Default: one per I/O queue pair and one for the admin queue. */
  readonly vectors?: number;
  /** BAR of the registers. Default 0. */
  readonly registersBar?: number;
  /** Time from CC.EN to CSTS.RDY. Default 0. */
  readonly readyDelayNs?: number;
  /** Commands under way at once. Default 1024. */
  readonly commandsMax?: number;
  /** Outstanding Asynchronous Event Requests. Default 4. */
  readonly asyncEventRequests?: number;
  readonly errorLogEntries?: number;
  readonly faults?: { readonly seed: number; readonly rules: readonly NvmeFaultRule[] };
}

export interface NvmeConfig {
  readonly copier: Copier;
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly subnqn: string;
  readonly vendorId: number;
  readonly subsystemVendorId: number;
  readonly controllerId: number;
  readonly cmb: Required<NvmeCmbOptions> | null;
  readonly pmr: Required<NvmePmrOptions> | null;
  readonly mdts: number;
  readonly maxQueues: number;
  readonly maxEntries: number;
  readonly dstrd: number;
  readonly sgl: boolean;
  readonly volatileWriteCache: boolean;
  readonly vectors: number;
  readonly registersBar: number;
  readonly registersBytes: number;
  readonly readyDelayNs: number;
  readonly commandsMax: number;
  readonly asyncEventRequests: number;
  readonly errorLogEntries: number;
}

function refuse(what: string, remedy: string): never {
  throw new UsageError("nvme-model-options", `NVMe model: ${what}`, { remedy });
}

function inRange(value: number, low: number, high: number, name: string): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  return refuse(`${name} is ${value}`, `give an integer from ${low} to ${high}`);
}

function takeCmb(cmb: NvmeCmbOptions, registersBar: number, registersBytes: number) {
  if (cmb.offset % 4096 !== 0 || cmb.sizeBytes % 4096 !== 0 || cmb.sizeBytes <= 0) {
    refuse("the CMB is not made of pages", "give offset and sizeBytes as multiples of 4096");
  }
  if (cmb.bar === registersBar && cmb.offset < registersBytes) {
    refuse("the CMB overlaps the registers", `put it at ${registersBytes} or in another BAR`);
  }
  return {
    bar: inRange(cmb.bar, 0, 5, "cmb.bar"),
    offset: cmb.offset,
    sizeBytes: cmb.sizeBytes,
    submissionQueues: cmb.submissionQueues ?? true,
    completionQueues: cmb.completionQueues ?? true,
    lists: cmb.lists ?? true,
    readData: cmb.readData ?? true,
    writeData: cmb.writeData ?? true,
    legacy: cmb.legacy ?? false,
  };
}

function takePmr(pmr: NvmePmrOptions) {
  if (!isPowerOfTwo(pmr.sizeBytes)) {
    refuse("the PMR is a whole BAR", "give sizeBytes as a power of two");
  }
  return {
    bar: inRange(pmr.bar, 0, 5, "pmr.bar"),
    sizeBytes: pmr.sizeBytes,
    readData: pmr.readData ?? true,
    writeData: pmr.writeData ?? true,
  };
}

/** Fills in defaults. Throws {@link UsageError} for what no controller could be. */
export function completeOptions(options: NvmeModelOptions): NvmeConfig {
  const maxQueues = inRange(options.maxQueues ?? 64, 1, NVME_IO_QUEUES_MAX, "maxQueues");
  const dstrd = inRange(options.dstrd ?? 0, 0, 15, "dstrd");
  const registersBar = inRange(options.registersBar ?? 0, 0, 5, "registersBar");
  const registersBytes = alignUp(doorbellsEnd(maxQueues, dstrd), 4096);
  const serial = options.serial ?? "PEERLANE0001";
  const asyncEventRequests = inRange(options.asyncEventRequests ?? 4, 1, 256, "asyncEventRequests");
  inRange(options.namespaces.length, 0, NVME_NAMESPACES_MAX, "number of namespaces");
  return {
    copier: options.copier,
    serial,
    model: options.model ?? "Peerlane NVMe controller model",
    firmware: options.firmware ?? "1.0",
    subnqn: options.subnqn ?? `nqn.2026-11.org.peerlane:nvme:${serial.toLowerCase()}`,
    vendorId: inRange(options.vendorId ?? 0x1b36, 0, 0xffff, "vendorId"),
    subsystemVendorId: inRange(options.subsystemVendorId ?? 0, 0, 0xffff, "subsystemVendorId"),
    controllerId: inRange(options.controllerId ?? 1, 0, 0xffef, "controllerId"),
    cmb: options.cmb ? takeCmb(options.cmb, registersBar, registersBytes) : null,
    pmr: options.pmr ? takePmr(options.pmr) : null,
    mdts: inRange(options.mdts ?? 8, 0, 16, "mdts"),
    maxQueues,
    maxEntries: inRange(options.maxEntries ?? 1024, 2, 65_536, "maxEntries"),
    dstrd,
    sgl: options.sgl ?? true,
    volatileWriteCache: options.volatileWriteCache ?? true,
    vectors: inRange(options.vectors ?? maxQueues + 1, 1, 2048, "vectors"),
    registersBar,
    registersBytes,
    readyDelayNs: inRange(options.readyDelayNs ?? 0, 0, 1e12, "readyDelayNs"),
    commandsMax: inRange(
      options.commandsMax ?? 1024,
      asyncEventRequests + 4,
      NVME_COMMANDS_MAX,
      "commandsMax",
    ),
    asyncEventRequests,
    errorLogEntries: inRange(options.errorLogEntries ?? 64, 1, 256, "errorLogEntries"),
  };
}
