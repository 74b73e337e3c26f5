/**
 * Capabilities: ids and the two linked lists that hold them. PCIe Base 6.0 sections 7.5.1.1.11
 * (list below 256), 7.6.3 (extended list from 256) and the PCI Code and ID Assignment Specification
 * 1.15.
 *
 * Both walks end: each dword is visited once, whatever a broken dump says. What stopped a walk
 * early is reported, so that "not found" and "could not look" stay apart.
 */

import {
  assert,
  CAPABILITIES_MAX,
  EXTENDED_CAPABILITIES_MAX,
  type Field,
  field,
} from "../../core/index.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";
import {
  CardBusHeader,
  CONFIG_HEADER_BYTES,
  CONFIG_PCI_BYTES,
  HEADER_LAYOUT,
  Header,
  HeaderType,
  Status,
} from "./header.ts";

/** Capability ids below 256. */
export const CapabilityId = {
  powerManagement: 0x01,
  agp: 0x02,
  vitalProductData: 0x03,
  slotId: 0x04,
  msi: 0x05,
  hotSwap: 0x06,
  pciX: 0x07,
  hyperTransport: 0x08,
  vendorSpecific: 0x09,
  debugPort: 0x0a,
  hotPlug: 0x0c,
  subsystem: 0x0d,
  secureDevice: 0x0f,
  express: 0x10,
  msiX: 0x11,
  sataHba: 0x12,
  advancedFeatures: 0x13,
  enhancedAllocation: 0x14,
} as const;

/** Extended capability ids. */
export const ExtendedId = {
  aer: 0x0001,
  virtualChannel: 0x0002,
  deviceSerialNumber: 0x0003,
  powerBudgeting: 0x0004,
  rootComplexLink: 0x0005,
  eventCollector: 0x0007,
  vendorSpecific: 0x000b,
  acs: 0x000d,
  ari: 0x000e,
  ats: 0x000f,
  sriov: 0x0010,
  multicast: 0x0012,
  pageRequest: 0x0013,
  resizableBar: 0x0015,
  tph: 0x0017,
  latencyTolerance: 0x0018,
  secondaryExpress: 0x0019,
  pasid: 0x001b,
  downstreamPortContainment: 0x001d,
  l1Substates: 0x001e,
  precisionTime: 0x001f,
  designatedVendor: 0x0023,
  vfResizableBar: 0x0024,
  dataLinkFeature: 0x0025,
  physicalLayer16: 0x0026,
  laneMargining: 0x0027,
  nativeEnclosure: 0x0029,
  physicalLayer32: 0x002a,
  dataObjectExchange: 0x002e,
  device3: 0x002f,
  ide: 0x0030,
  physicalLayer64: 0x0031,
} as const;

/** One element of a list. */
export interface ListedCapability {
  readonly id: number;
  readonly offset: number;
  readonly extended: boolean;
  /** Version of an extended capability; 0 for the others. */
  readonly version: number;
}

/** Why a walk stopped before the end of its list; `complete` when it did not. */
export type ListEnd = "complete" | "truncated" | "loop" | "bad-pointer";

export interface CapabilityList {
  readonly capabilities: readonly ListedCapability[];
  readonly end: ListEnd;
}

const EMPTY: CapabilityList = { capabilities: [], end: "complete" };

/** Extended capability header, 7.6.3: id, version, next. */
export const ExtendedHeader: Readonly<Record<"id" | "version" | "next", Field>> = {
  id: field(0, 16),
  version: field(16, 4),
  next: field(20, 12),
};

/** Walks the list below 256. Needs 64 bytes; `truncated` when the list leaves the dump. */
export function walkCapabilities(config: Uint8Array): CapabilityList {
  if (config.length < CONFIG_HEADER_BYTES) return { capabilities: [], end: "truncated" };
  if (Status.capabilitiesList.get(readLe16(config, Header.status)) === 0) return EMPTY;
  const layout = HEADER_LAYOUT.get(config[Header.headerType] as number);
  const start =
    layout === HeaderType.cardBus ? CardBusHeader.capabilitiesPointer : Header.capabilitiesPointer;
  const capabilities: ListedCapability[] = [];
  const seen = new Uint8Array(64);
  let offset = (config[start] as number) & 0xfc;
  for (let i = 0; offset !== 0; i++) {
    if (offset < CONFIG_HEADER_BYTES) return { capabilities, end: "bad-pointer" };
    if (i >= CAPABILITIES_MAX || seen[offset >>> 2] === 1) return { capabilities, end: "loop" };
    if (offset + 2 > config.length) return { capabilities, end: "truncated" };
    seen[offset >>> 2] = 1;
    const id = config[offset] as number;
    // All ones is what a device answers that is not there (any more).
    if (id === 0xff) return { capabilities, end: "bad-pointer" };
    capabilities.push({ id, offset, extended: false, version: 0 });
    offset = (config[offset + 1] as number) & 0xfc;
  }
  return { capabilities, end: "complete" };
}

/**
 * Walks the list from 256 on. A dump that ends at 256 gives `truncated`; so does a list that leaves
 * the dump. An empty extended space (first header zero) is complete.
 */
export function walkExtendedCapabilities(config: Uint8Array): CapabilityList {
  const capabilities: ListedCapability[] = [];
  if (config.length < CONFIG_PCI_BYTES + 4) return { capabilities, end: "truncated" };
  const seen = new Uint8Array(1024);
  let offset = CONFIG_PCI_BYTES;
  for (let i = 0; offset !== 0; i++) {
    if (offset < CONFIG_PCI_BYTES) return { capabilities, end: "bad-pointer" };
    if (i >= EXTENDED_CAPABILITIES_MAX || seen[offset >>> 2] === 1) {
      return { capabilities, end: "loop" };
    }
    if (offset + 4 > config.length) return { capabilities, end: "truncated" };
    seen[offset >>> 2] = 1;
    const header = readLe32(config, offset);
    if (header === 0xffffffff) return { capabilities, end: "bad-pointer" };
    if (header === 0) break;
    const version = ExtendedHeader.version.get(header);
    const id = ExtendedHeader.id.get(header);
    // A null capability (id 0) only links on, 7.9.28.
    if (id !== 0) capabilities.push({ id, offset, extended: true, version });
    offset = ExtendedHeader.next.get(header) & 0xffc;
  }
  return { capabilities, end: "complete" };
}

/** Offset of the first capability with this id; 0 when there is none. */
export function findCapability(config: Uint8Array, id: number): number {
  return offsetOf(walkCapabilities(config), id);
}

/** Offset of the first extended capability with this id; 0 when there is none. */
export function findExtendedCapability(config: Uint8Array, id: number): number {
  return offsetOf(walkExtendedCapabilities(config), id);
}

function offsetOf(list: CapabilityList, id: number): number {
  return list.capabilities.find((capability) => capability.id === id)?.offset ?? 0;
}

/** Writes id and link of a capability below 256. `next` is 0 for the last. */
export function writeCapabilityHeader(
  config: Uint8Array,
  offset: number,
  id: number,
  next: number,
): void {
  assert(offset >= CONFIG_HEADER_BYTES && offset % 4 === 0, "a capability is above the header");
  writeLe16(config, offset, (id & 0xff) | (next << 8));
}

/** Writes the header of an extended capability. `next` is 0 for the last. */
export function writeExtendedHeader(
  config: Uint8Array,
  offset: number,
  id: number,
  version: number,
  next: number,
): void {
  assert(offset >= CONFIG_PCI_BYTES && offset % 4 === 0, "an extended capability is above 256");
  writeLe32(config, offset, ((id & 0xffff) | ((version & 0xf) << 16) | (next << 20)) >>> 0);
}
