/**
 * Offsets and bits of configuration space that the simulated machine acts on, and the walk over both
 * capability lists. Only what the fabric needs; decoding for people is the machine room's.
 *
 * Source: PCI Express Base 6.x sections 7.5.1, 7.5.3, 7.7.1, 7.7.2, 7.7.11, 9.3.3 (SR-IOV).
 */

import { CAPABILITIES_MAX, EXTENDED_CAPABILITIES_MAX } from "../core/index.ts";

/** Offsets in the header. */
export const Header = {
  vendorId: 0x00,
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  headerType: 0x0e,
  bar0: 0x10,
  primaryBus: 0x18,
  secondaryBus: 0x19,
  subordinateBus: 0x1a,
  ioBase: 0x1c,
  secondaryStatus: 0x1e,
  memoryBase: 0x20,
  prefetchableBase: 0x24,
  prefetchableBaseUpper: 0x28,
  prefetchableLimitUpper: 0x2c,
  ioUpper: 0x30,
  subsystem: 0x2c,
  capabilities: 0x34,
  interruptLine: 0x3c,
  bridgeControl: 0x3e,
} as const;

export const Command = {
  ioSpace: 0x1,
  memorySpace: 0x2,
  busMaster: 0x4,
  /** Bits that software may write on a PCI Express function. */
  writable: 0x0547,
} as const;

export const BRIDGE_CONTROL_SECONDARY_RESET = 0x40;

export const CapabilityId = {
  powerManagement: 0x01,
  msi: 0x05,
  pciExpress: 0x10,
  msix: 0x11,
} as const;

export const ExtendedId = {
  aer: 0x0001,
  acs: 0x000d,
  ats: 0x000f,
  sriov: 0x0010,
} as const;

/** Offsets in the PCI Express capability. */
export const Express = {
  capabilities: 0x02,
  deviceCapabilities: 0x04,
  deviceControl: 0x08,
  deviceStatus: 0x0a,
  linkCapabilities: 0x0c,
  linkControl: 0x10,
  linkStatus: 0x12,
  slotControl: 0x18,
  rootControl: 0x1c,
  deviceControl2: 0x28,
  linkControl2: 0x30,
} as const;

export const DEVICE_CONTROL_FLR = 0x8000;
export const DEVICE_CAPABILITIES_FLR = 0x1000_0000;
export const LINK_CONTROL_DISABLE = 0x10;

/** ACS capability and control bits, the same in both words. */
export const Acs = {
  sourceValidation: 0x01,
  translationBlocking: 0x02,
  requestRedirect: 0x04,
  completionRedirect: 0x08,
  upstreamForwarding: 0x10,
  egressControl: 0x20,
  directTranslated: 0x40,
  /** In the capability word: bits 12:7 of the control word are implemented. */
  enhanced: 0x80,
  /** In the control word, with `enhanced`: what a switch's window claims and no port of it does. */
  unclaimedRedirect: 0x1000,
} as const;

export const AcsOffset = { capability: 0x04, control: 0x06, egressVector: 0x08 } as const;
export const MsixOffset = { control: 0x02, table: 0x04, pending: 0x08 } as const;
export const MSIX_ENABLE = 0x8000;
export const MSIX_MASK_ALL = 0x4000;
export const MSI_ENABLE = 0x0001;
export const MSI_64_BIT = 0x0080;
export const MSI_MASKABLE = 0x0100;
export const SriovOffset = { control: 0x08, vfBar0: 0x24 } as const;
export const SRIOV_VF_MEMORY_SPACE = 0x8;

/** Offset of a capability, or 0. */
export function findCapability(view: DataView, id: number): number {
  if ((view.getUint16(Header.status, true) & 0x10) === 0) return 0;
  let at = view.getUint8(Header.capabilities) & 0xfc;
  for (let i = 0; i < CAPABILITIES_MAX && at >= 0x40; i++) {
    if (view.getUint8(at) === id) return at;
    at = view.getUint8(at + 1) & 0xfc;
  }
  return 0;
}

/** Offset of an extended capability, or 0. */
export function findExtendedCapability(view: DataView, id: number): number {
  let at = 0x100;
  for (let i = 0; i < EXTENDED_CAPABILITIES_MAX && at >= 0x100; i++) {
    const head = view.getUint32(at, true);
    if (head === 0 || head === 0xffffffff) return 0;
    if ((head & 0xffff) === id) return at;
    at = (head >>> 20) & 0xffc;
  }
  return 0;
}
