/**
 * A real machine as data: what importers produce, what rules, fabric, planner and page read. Plain
 * data only (JSON-safe but for `config` bytes), immutable by convention: an edit makes a copy.
 *
 * Three states matter and stay apart: present (an object), absent (`null`) and unknown. Unknown is
 * `null` plus an entry in `unknown` that names the field and says what follows from not knowing it;
 * {@link isUnknown} asks.
 */

import type { Bdf } from "../core/index.ts";
import { type ExpressFacts, type LinkRegister, PortType } from "../spec/pcie/index.ts";

export { PortType };

/** Where a fact came from, for error texts. */
export interface Source {
  /** File name or `live`. */
  readonly file: string;
  /** `lspci-hex`, `lspci-text`, `sysfs`, `hwloc-xml`, ... */
  readonly format: string;
}

/** What is not in the input, and what follows from that. */
export interface Unknown {
  /** A field of {@link PciFunction} or {@link Host}: `acs`, `bars[0].sizeBytes`. */
  readonly field: string;
  /** `no extended configuration space in the dump: ACS cannot be read, assumed absent`. */
  readonly consequence: string;
}

export interface Bar {
  /** 0 to 5; the low half's index for 64-bit BARs. 6 is the expansion ROM. */
  readonly index: number;
  readonly kind: "memory32" | "memory64" | "io";
  readonly prefetchable: boolean;
  /** Bus address as the register holds it. 0 when unassigned. */
  readonly address: number;
  /** Power of two; null when the source does not tell (hex dumps do not). */
  readonly sizeBytes: number | null;
  /** False when the BAR has no usable address or its decode is off in the dump. */
  readonly enabled: boolean;
}

/** A bridge's decode range, both ends inclusive, bus addresses. */
export interface Window {
  readonly base: number;
  readonly limit: number;
}

/** Type 1 (and type 2) header facts. A null window is closed. */
export interface BridgeFacts {
  readonly primary: number;
  readonly secondary: number;
  readonly subordinate: number;
  readonly io: Window | null;
  readonly memory: Window | null;
  readonly prefetchable: Window | null;
  readonly bridgeControl: number;
}

/** A link's speed and width, as registers tell them. */
export type LinkFacts = LinkRegister;

/** The PCI Express capability, as its registers tell it. */
export type PcieFacts = ExpressFacts;

/** Access Control Services, PCIe Base section 7.7.11. Bit layout of both words is the same. */
export interface AcsFacts {
  readonly offset: number;
  readonly capabilities: number;
  readonly control: number;
  /** Egress control vector, bit n for port n; null when EC is not implemented. */
  readonly egressVector: readonly number[] | null;
}

export interface SriovFacts {
  readonly offset: number;
  readonly totalVfs: number;
  readonly numVfs: number;
  readonly firstVfOffset: number;
  readonly vfStride: number;
  readonly vfDeviceId: number;
  readonly vfEnable: boolean;
  readonly bars: readonly Bar[];
}

/** One resizable BAR. */
export interface ResizableBar {
  readonly index: number;
  readonly currentBytes: number;
  readonly supportedBytes: readonly number[];
}

export interface MsixFacts {
  readonly offset: number;
  readonly vectors: number;
  readonly enabled: boolean;
  readonly tableBar: number;
  readonly tableOffset: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

/** A capability by its place in the list. */
export interface CapabilityRef {
  readonly id: number;
  readonly offset: number;
  readonly extended: boolean;
  readonly version: number;
}

export interface PciFunction {
  readonly bdf: Bdf;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number | null;
  readonly subsystemId: number | null;
  /** 24 bits: base class, sub-class, programming interface. */
  readonly classCode: number;
  readonly revision: number;
  /** 0 endpoint, 1 PCI-to-PCI bridge, 2 CardBus. */
  readonly headerType: number;
  readonly multiFunction: boolean;
  /** Command register; null when unknown. */
  readonly command: number | null;
  readonly bars: readonly Bar[];
  readonly bridge: BridgeFacts | null;
  readonly pcie: PcieFacts | null;
  readonly acs: AcsFacts | null;
  readonly sriov: SriovFacts | null;
  /** For a virtual function: its physical function. */
  readonly physicalFunction: Bdf | null;
  readonly resizableBars: readonly ResizableBar[];
  readonly msix: MsixFacts | null;
  /** Address Translation Services: enabled or not; null when the capability is absent. */
  readonly ats: { readonly enabled: boolean } | null;
  /** Offset of the AER extended capability; null when absent. */
  readonly aerOffset: number | null;
  readonly capabilities: readonly CapabilityRef[];
  readonly numaNode: number | null;
  readonly iommuGroup: number | null;
  /** Type of the group's domain, as sysfs prints it: `identity`, `DMA`, `DMA-FQ`, `blocked`. */
  readonly iommuDomain?: string | null;
  readonly driver: string | null;
  /** `Micron Technology Inc`, `Device 51c3`, as the source or pci.ids names them. */
  readonly vendorName: string | null;
  readonly deviceName: string | null;
  readonly className: string | null;
  readonly physicalSlot: string | null;
  /** What Linux calls the devices it made of this function: `nvme0`, `mlx5_0`, `eth0`, `card1`. */
  readonly kernelNames?: readonly string[];
  /** Peer memory the kernel publishes for it (sysfs p2pmem), in bytes. */
  readonly p2pmem: { readonly sizeBytes: number; readonly published: boolean } | null;
  /** Raw configuration space as dumped: 64, 256 or 4096 bytes; null when the source had none. */
  readonly config: Uint8Array | null;
  readonly unknown: readonly Unknown[];
}

/** An aperture of a host bridge: CPU addresses from `phys` appear on the bus from `bus`. */
export interface Aperture {
  readonly phys: number;
  readonly bus: number;
  readonly sizeBytes: number;
}

export interface HostBridge {
  readonly domain: number;
  /** Root bus number. */
  readonly bus: number;
  /** Last bus number below it. */
  readonly busEnd: number;
  /** Memory apertures. Where the source tells none, one identity aperture over all addresses. */
  readonly apertures: readonly Aperture[];
  readonly numaNode: number | null;
}

export type IommuMode = "off" | "passthrough" | "strict";

/** Facts of the host that are not PCI. Null means unknown. */
export interface Host {
  /** `GenuineIntel`, `AuthenticAMD`, ... */
  readonly cpuVendor: string | null;
  /** Family as /proc/cpuinfo prints it, decimal. */
  readonly cpuFamily: number | null;
  readonly cpuModel: string | null;
  /** `x86_64`, `aarch64`, ... */
  readonly architecture: string | null;
  readonly kernelVersion: string | null;
  readonly kernelCommandLine: string | null;
  readonly iommu: IommuMode | null;
  readonly modules: readonly string[] | null;
  /** CONFIG_X=y lines by name, without CONFIG_. */
  readonly kernelConfig: Readonly<Record<string, string>> | null;
  /** RAM ranges in CPU addresses, from iomem or memory maps. */
  readonly ram: readonly Window[] | null;
  readonly unknown: readonly Unknown[];
}

export interface Machine {
  readonly name: string;
  readonly sources: readonly Source[];
  readonly host: Host;
  readonly hostBridges: readonly HostBridge[];
  /** Sorted by {@link PciFunction.bdf}, no duplicates. */
  readonly functions: readonly PciFunction[];
  /** What the importer met that a reader should know. */
  readonly warnings: readonly string[];
}

/** True when the input did not tell `field` of the function or host. */
export function isUnknown(subject: PciFunction | Host, field: string): boolean {
  // A loop, since this is asked of every function and a closure for each would be garbage.
  for (let i = 0; i < subject.unknown.length; i++)
    if (subject.unknown[i].field === field) return true;
  return false;
}

/** A host of which nothing is known. */
export const UNKNOWN_HOST: Host = {
  cpuVendor: null,
  cpuFamily: null,
  cpuModel: null,
  architecture: null,
  kernelVersion: null,
  kernelCommandLine: null,
  iommu: null,
  modules: null,
  kernelConfig: null,
  ram: null,
  unknown: [],
};
