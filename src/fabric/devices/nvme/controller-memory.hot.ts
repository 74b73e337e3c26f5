/**
 * What an address in a command means to the controller: its own CMB, its own PMR, or the bus (NVM
 * Express Base 2.0, sections 8.5 and 8.14). Own memory is copied without leaving the device, which
 * is what makes a transfer through a CMB cost no link.
 *
 * An address range is wholly in one of the three. A range that straddles the edge of the CMB or PMR
 * is refused with Invalid Use of Controller Memory Buffer. Addresses at and above 2^52 do not
 * exist.
 *
 * Statuses are NVMe statuses: DMA failures become Data Transfer Error.
 */

import {
  ADDRESS_LIMIT,
  assert,
  DmaStatus,
  isVisibleToInitiator,
  type Span,
  type SparseMemory,
} from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";
import type { DevicePort } from "../../device.ts";

export const MemoryKind = { bus: 0, cmb: 1, pmr: 2, bitBucket: 3, straddles: -1 } as const;

/** One of the controller's own memories and the addresses that currently mean it. */
export class MemoryWindow {
  readonly memory: SparseMemory | null;
  readonly sizeBytes: number;
  /** Which uses are allowed (CMBSZ, PMRCAP). */
  readonly submissionQueues: boolean;
  readonly completionQueues: boolean;
  readonly lists: boolean;
  /** RDS: the controller may write data here. */
  readonly readData: boolean;
  /** WDS: the controller may read data from here. */
  readonly writeData: boolean;
  /** First address, and the first one after; nothing matches when disabled. */
  start = Number.POSITIVE_INFINITY;
  end = Number.NEGATIVE_INFINITY;

  constructor(
    memory: SparseMemory | null,
    uses: {
      submissionQueues: boolean;
      completionQueues: boolean;
      lists: boolean;
      readData: boolean;
      writeData: boolean;
    },
  ) {
    this.memory = memory;
    this.sizeBytes = memory?.sizeBytes ?? 0;
    this.submissionQueues = uses.submissionQueues;
    this.completionQueues = uses.completionQueues;
    this.lists = uses.lists;
    this.readData = uses.readData;
    this.writeData = uses.writeData;
  }

  enable(start: number): void {
    assert(this.memory !== null, "a window that is enabled has memory");
    this.start = start;
    this.end = start + this.sizeBytes;
  }

  disable(): void {
    this.start = Number.POSITIVE_INFINITY;
    this.end = Number.NEGATIVE_INFINITY;
  }

  get enabled(): boolean {
    return this.end > this.start;
  }
}

export class ControllerMemory {
  readonly cmb: MemoryWindow;
  readonly pmr: MemoryWindow;
  private port: DevicePort | null = null;

  constructor(cmb: MemoryWindow, pmr: MemoryWindow) {
    this.cmb = cmb;
    this.pmr = pmr;
  }

  attach(port: DevicePort): void {
    this.port = port;
  }

  /** A {@link MemoryKind}. `length` is at least 1. */
  kindOf(address: number, length: number): number {
    const end = address + length;
    const cmb = this.cmb;
    if (address < cmb.end && end > cmb.start) {
      return address >= cmb.start && end <= cmb.end ? MemoryKind.cmb : MemoryKind.straddles;
    }
    const pmr = this.pmr;
    if (address < pmr.end && end > pmr.start) {
      return address >= pmr.start && end <= pmr.end ? MemoryKind.pmr : MemoryKind.straddles;
    }
    return MemoryKind.bus;
  }

  /** The window of a kind that has one. */
  windowOf(kind: number): MemoryWindow {
    return kind === MemoryKind.pmr ? this.pmr : this.cmb;
  }

  /** Reads `length` bytes at `address`, wherever that is. Returns an NVMe status. */
  read(address: number, target: Uint8Array, targetOffset: number, length: number): number {
    const kind = this.kindOf(address, length);
    if (kind === MemoryKind.bus) return this.readBus(address, target, targetOffset, length);
    if (kind === MemoryKind.straddles) return NvmeStatus.invalidUseOfCmb;
    const window = this.windowOf(kind);
    (window.memory as SparseMemory).read(address - window.start, target, targetOffset, length);
    return NvmeStatus.success;
  }

  write(address: number, source: Uint8Array, sourceOffset: number, length: number): number {
    const kind = this.kindOf(address, length);
    if (kind === MemoryKind.bus) return this.writeBus(address, source, sourceOffset, length);
    if (kind === MemoryKind.straddles) return NvmeStatus.invalidUseOfCmb;
    const window = this.windowOf(kind);
    (window.memory as SparseMemory).write(address - window.start, source, sourceOffset, length);
    return NvmeStatus.success;
  }

  /** Like {@link read}, lent: `span.length` may be less than `length`. Returns an NVMe status. */
  borrow(address: number, length: number, span: Span): number {
    const kind = this.kindOf(address, length);
    if (kind === MemoryKind.bus) {
      if (address + length > ADDRESS_LIMIT) return NvmeStatus.dataTransferError;
      const status = (this.port as DevicePort).borrow(address, length, span);
      return status === DmaStatus.ok ? NvmeStatus.success : NvmeStatus.dataTransferError;
    }
    if (kind === MemoryKind.straddles) return NvmeStatus.invalidUseOfCmb;
    const window = this.windowOf(kind);
    (window.memory as SparseMemory).borrow(address - window.start, length, span);
    return NvmeStatus.success;
  }

  readBus(address: number, target: Uint8Array, targetOffset: number, length: number): number {
    if (address + length > ADDRESS_LIMIT) return NvmeStatus.dataTransferError;
    const status = (this.port as DevicePort).read(address, target, targetOffset, length);
    return status === DmaStatus.ok ? NvmeStatus.success : NvmeStatus.dataTransferError;
  }

  /** A write that the fabric dropped in silence looks like a success from here. */
  writeBus(address: number, source: Uint8Array, sourceOffset: number, length: number): number {
    if (address + length > ADDRESS_LIMIT) return NvmeStatus.dataTransferError;
    const status = (this.port as DevicePort).write(address, source, sourceOffset, length);
    return isVisibleToInitiator(status) ? NvmeStatus.dataTransferError : NvmeStatus.success;
  }
}
