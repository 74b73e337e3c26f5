/**
 * Which bits of a function's configuration space software may write: derived once from the header
 * type and the capabilities that the bytes themselves announce.
 *
 * Invariant: a bit that no rule below names is read-only.
 *
 * Source: the register descriptions of PCI Express Base 6.x chapter 7.
 */

import {
  Acs,
  AcsOffset,
  CapabilityId,
  Command,
  DEVICE_CAPABILITIES_FLR,
  Express,
  ExtendedId,
  findCapability,
  findExtendedCapability,
  Header,
  MSI_64_BIT,
  MSI_MASKABLE,
  MsixOffset,
  SriovOffset,
} from "./config-layout.ts";

export const CONFIG_BYTES = 4096;

/** What a write concerned; bits. */
export const ConfigEffect = {
  none: 0,
  /** Where requests go: command, BARs, windows, bus numbers, ACS, link control. */
  routing: 1,
  /** Device Control: payload sizes, and Initiate Function Level Reset. */
  deviceControl: 2,
  /** MSI or MSI-X control. */
  interrupts: 4,
  /** Bridge Control: Secondary Bus Reset. */
  bridgeControl: 8,
} as const;

/** Which bits of each byte do what. Filled by `describeWrites`. */
export class ConfigMasks {
  readonly writable = new Uint8Array(CONFIG_BYTES);
  readonly clearedByOnes = new Uint8Array(CONFIG_BYTES);
  readonly effects = new Uint8Array(CONFIG_BYTES);

  /** Makes the bits of `mask` of the register of `size` bytes at `offset` writable. */
  allow(offset: number, size: number, mask: number, effect: number = ConfigEffect.none): void {
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      this.writable[at] = (this.writable[at] as number) | ((mask >>> (8 * i)) & 0xff);
      this.effects[at] = (this.effects[at] as number) | effect;
    }
  }

  clearByOnes(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) {
      this.clearedByOnes[offset + i] = (mask >>> (8 * i)) & 0xff;
    }
  }
}

const { routing, deviceControl, interrupts, bridgeControl } = ConfigEffect;

/** Fills `masks` for the function whose bytes `view` shows. `barSizes` by BAR index; 0 for none. */
export function describeWrites(
  masks: ConfigMasks,
  view: DataView,
  barSizes: readonly number[],
): void {
  const isBridge = (view.getUint8(Header.headerType) & 0x7f) === 1;
  masks.allow(Header.command, 2, Command.writable, routing);
  masks.clearByOnes(Header.status, 2, 0xf900);
  masks.allow(0x0c, 1, 0xff);
  masks.allow(Header.interruptLine, 1, 0xff);
  describeBars(masks, view, barSizes, isBridge ? 2 : 6);
  if (isBridge) describeBridge(masks, view);
  describeCapabilities(masks, view);
  describeExtendedCapabilities(masks, view);
}

/** Address bits above the BAR's size are writable: that is how software learns the size. */
function describeBars(
  masks: ConfigMasks,
  view: DataView,
  barSizes: readonly number[],
  count: number,
): void {
  for (let index = 0; index < count; index++) {
    const sizeBytes = barSizes[index] ?? 0;
    if (sizeBytes === 0) continue;
    const offset = Header.bar0 + 4 * index;
    const flags = view.getUint8(offset);
    const isIo = (flags & 1) !== 0;
    const lowMask = sizeBytes >= 2 ** 32 ? 0 : ~(sizeBytes - 1) >>> 0;
    masks.allow(offset, 4, lowMask & (isIo ? 0xfffffffc : 0xfffffff0), routing);
    if (isIo || (flags & 6) !== 4) continue;
    const highMask = sizeBytes > 2 ** 32 ? ~(sizeBytes / 2 ** 32 - 1) >>> 0 : 0xffffffff;
    masks.allow(offset + 4, 4, highMask, routing);
    index++;
  }
}

function describeBridge(masks: ConfigMasks, view: DataView): void {
  masks.allow(Header.primaryBus, 3, 0xffffff, routing);
  masks.allow(Header.ioBase, 2, 0xf0f0);
  masks.clearByOnes(Header.secondaryStatus, 2, 0xf900);
  masks.allow(Header.memoryBase, 4, 0xfff0fff0, routing);
  masks.allow(Header.prefetchableBase, 4, 0xfff0fff0, routing);
  if ((view.getUint8(Header.prefetchableBase) & 0xf) === 1) {
    masks.allow(Header.prefetchableBaseUpper, 4, 0xffffffff, routing);
    masks.allow(Header.prefetchableLimitUpper, 4, 0xffffffff, routing);
  }
  masks.allow(Header.ioUpper, 4, 0xffffffff);
  masks.allow(Header.bridgeControl, 2, 0x0f7f, bridgeControl);
}

function describeCapabilities(masks: ConfigMasks, view: DataView): void {
  const express = findCapability(view, CapabilityId.pciExpress);
  if (express !== 0) {
    const capabilities = view.getUint32(express + Express.deviceCapabilities, true);
    const resettable = (capabilities & DEVICE_CAPABILITIES_FLR) !== 0;
    masks.allow(express + Express.deviceControl, 2, resettable ? 0xffff : 0x7fff, deviceControl);
    masks.clearByOnes(express + Express.deviceStatus, 2, 0x000f);
    masks.allow(express + Express.linkControl, 2, 0x0ffb, routing);
    masks.clearByOnes(express + Express.linkStatus, 2, 0xc000);
    masks.allow(express + Express.slotControl, 2, 0x1fff);
    masks.allow(express + Express.rootControl, 2, 0x001f);
    masks.allow(express + Express.deviceControl2, 2, 0xffff);
    masks.allow(express + Express.linkControl2, 2, 0xffff);
  }
  const msix = findCapability(view, CapabilityId.msix);
  if (msix !== 0) masks.allow(msix + MsixOffset.control, 2, 0xc000, interrupts);
  const msi = findCapability(view, CapabilityId.msi);
  if (msi !== 0) describeMsi(masks, view, msi);
  const power = findCapability(view, CapabilityId.powerManagement);
  if (power !== 0) masks.allow(power + 4, 2, 0x0100);
}

function describeMsi(masks: ConfigMasks, view: DataView, msi: number): void {
  const control = view.getUint16(msi + 2, true);
  const dataOffset = (control & MSI_64_BIT) !== 0 ? 12 : 8;
  masks.allow(msi + 2, 2, 0x0071, interrupts);
  masks.allow(msi + 4, 4, 0xfffffffc, interrupts);
  if (dataOffset === 12) masks.allow(msi + 8, 4, 0xffffffff, interrupts);
  masks.allow(msi + dataOffset, 2, 0xffff, interrupts);
  if ((control & MSI_MASKABLE) !== 0) {
    masks.allow(msi + dataOffset + 4, 4, 0xffffffff, interrupts);
  }
}

function describeExtendedCapabilities(masks: ConfigMasks, view: DataView): void {
  const acs = findExtendedCapability(view, ExtendedId.acs);
  if (acs !== 0) {
    const capability = view.getUint16(acs + AcsOffset.capability, true);
    const enhanced = (capability & Acs.enhanced) !== 0 ? 0x1f80 : 0;
    masks.allow(acs + AcsOffset.control, 2, (capability & 0x7f) | enhanced, routing);
    if ((capability & Acs.egressControl) !== 0) {
      const bits = capability >> 8 || 256;
      for (let done = 0; done < bits; done += 32) {
        const left = bits - done;
        const mask = left >= 32 ? 0xffffffff : 2 ** left - 1;
        masks.allow(acs + AcsOffset.egressVector + done / 8, 4, mask, routing);
      }
    }
  }
  const ats = findExtendedCapability(view, ExtendedId.ats);
  if (ats !== 0) masks.allow(ats + 6, 2, 0x801f);
  const aer = findExtendedCapability(view, ExtendedId.aer);
  if (aer !== 0) {
    masks.clearByOnes(aer + 4, 4, 0xffffffff);
    masks.allow(aer + 8, 8, 0xffffffff);
    masks.allow(aer + 12, 4, 0xffffffff);
    masks.clearByOnes(aer + 16, 4, 0xffffffff);
    masks.allow(aer + 20, 4, 0xffffffff);
  }
  const sriov = findExtendedCapability(view, ExtendedId.sriov);
  // Enabling VFs again would need the VFs' functions: only their memory decode is live.
  if (sriov !== 0) masks.allow(sriov + SriovOffset.control, 2, 0x0008, routing);
}
