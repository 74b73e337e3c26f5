/**
 * The door to hardware. A driver gets a function on the bus and nothing else; the same driver
 * source runs on the simulated fabric, on vfio-user and on VFIO.
 *
 * Invariants: every DMA carries the requester id of the function it was set up through; there is no
 * global memory handle. All methods are control plane (they may throw {@link PeerlaneError}) except
 * those of {@link MappedRegion}, which are called per I/O and never throw.
 */

import type { Bdf, BusAddr, Inspectable, PhysAddr, Poller, U64 } from "../core/index.ts";

/** Configuration space of one function. Offsets in bytes, naturally aligned. */
export interface ConfigAccess {
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
}

/** Where a memory BAR is, for the CPU and on the bus. */
export interface BarAddress {
  readonly index: number;
  readonly phys: PhysAddr;
  readonly bus: BusAddr;
  readonly sizeBytes: number;
  readonly prefetchable: boolean;
}

/**
 * A BAR as the CPU sees it. Reads of a BAR that does not answer (Memory Space Enable clear, link
 * down) give all ones, as hardware does.
 */
export interface MappedRegion {
  readonly sizeBytes: number;
  readonly phys: PhysAddr;
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  /** One 64-bit access where the bus can, else low half first. */
  read64(offset: number, out: U64): void;
  write64(offset: number, lo: number, hi: number): void;
  /**
   * CPU copies from and to a memory BAR: for the owner's check of data, and for queue entries that
   * lie in a device's memory.
   */
  readBytes(offset: number, target: Uint8Array): void;
  writeBytes(offset: number, source: Uint8Array): void;
  /**
   * The same with part of an array, per I/O: payload of a transport whose mover is the CPU (TCP).
   * Posted writes, and reads that wait for the device.
   */
  copyIn(offset: number, source: Uint8Array, sourceOffset: number, length: number): void;
  copyOut(offset: number, target: Uint8Array, targetOffset: number, length: number): void;
}

/** Physically contiguous host memory with its CPU view. */
export interface HostRegion {
  readonly phys: PhysAddr;
  readonly bytes: Uint8Array;
}

/** Receives message-signalled interrupts. Called from inside `poll`, never re-entrantly. */
export interface InterruptSink {
  interrupt(vector: number): void;
}

export interface BackingFunction extends Inspectable {
  readonly bdf: Bdf;
  readonly machine: BackingMachine;
  readonly config: ConfigAccess;
  /** Null when the BAR is not implemented, is an I/O BAR, or has no address. */
  barAddress(index: number): BarAddress | null;
  /** Maps a memory BAR. Throws `no-bar` when {@link barAddress} is null. */
  mapBar(index: number): MappedRegion;
  /** Enables MSI-X vectors 0..count-1, or MSI; throws `no-interrupts` when it has neither. */
  enableInterrupts(count: number, sink: InterruptSink): void;
  disableInterrupts(): void;
  /** Function level reset, or the best the function has. Configuration is restored. */
  reset(): Promise<void>;
}

/** Access rights of an IOMMU mapping. */
export interface IommuProtection {
  readonly read: boolean;
  readonly write: boolean;
  /** The target is device memory: no caching attributes. */
  readonly mmio: boolean;
}

/** A domain of the IOMMU: one set of page tables. */
export type IommuDomainId = number;

/** The IOMMU in front of host memory. Null on machines (or backings) that have none enabled. */
export interface IommuControl extends Inspectable {
  /** Functions that cannot be told apart share a group; a domain is attached to whole groups. */
  groupOf(bdf: Bdf): number;
  /** `identity`: each address maps to itself (passthrough). `translated`: nothing is mapped yet. */
  createDomain(kind: "identity" | "translated"): IommuDomainId;
  destroyDomain(domain: IommuDomainId): void;
  attach(domain: IommuDomainId, bdf: Bdf): void;
  /** All arguments are multiples of 4096. Throws `iova-busy` when the range overlaps a mapping. */
  map(
    domain: IommuDomainId,
    iova: number,
    phys: PhysAddr,
    length: number,
    protection: IommuProtection,
  ): void;
  unmap(domain: IommuDomainId, iova: number, length: number): void;
  /** Invalidates cached translations of the domain (IOTLB). Until then stale ones may still hit. */
  flush(domain: IommuDomainId): void;
}

/** Time for drivers: simulated or real. */
export interface DriverClock {
  nowNs(): number;
  /** Lets `ns` pass. On the fabric this runs the simulation; on hardware it sleeps. */
  sleep(ns: number): Promise<void>;
}

export interface BackingMachine extends Poller, Inspectable {
  readonly clock: DriverClock;
  readonly iommu: IommuControl | null;
  /** Throws `no-such-function` and lists what there is. */
  open(bdf: Bdf): BackingFunction;
  /**
   * Host memory for rings and buffers. `alignment` a power of two, at least 4096. `purpose` is the
   * name that traffic reports give it: `control`, `payload`, ...
   */
  allocateHost(sizeBytes: number, alignment?: number, purpose?: string): HostRegion;
  freeHost(region: HostRegion): void;
}
