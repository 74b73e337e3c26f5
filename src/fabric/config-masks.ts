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
  AcsBit,
  AcsEnhanced,
  Aer,
  Ats,
  BridgeControl,
  BridgeHeader,
  barCount,
  barOffset,
  CapabilityId,
  CONFIG_PCIE_BYTES,
  DeviceCapabilities,
  decodeResizableBars,
  Express,
  ExtendedId,
  egressVectorWords,
  findCapability,
  findExtendedCapability,
  HEADER_LAYOUT,
  Header,
  HeaderType,
  Msi,
  MsiControl,
  MsiX,
  MsiXControl,
  ResizableBarControl,
  ResizableBarOffset,
  readLe16,
  readLe32,
  Sriov,
  SriovControl,
} from "../spec/pcie/index.ts";

/** Command bits that software may write on a PCI Express function. */
const COMMAND_WRITABLE = 0x0547;
/** Error bits of Status and Secondary Status: written with one to clear. */
const STATUS_ERRORS = 0xf900;

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
  /** BAR Size of the Resizable BAR capability. */
  barSize: 16,
} as const;

/** Which bits of each byte do what. Filled by `describeWrites`. */
export class ConfigMasks {
  readonly writable = new Uint8Array(CONFIG_PCIE_BYTES);
  readonly clearedByOnes = new Uint8Array(CONFIG_PCIE_BYTES);
  readonly effects = new Uint8Array(CONFIG_PCIE_BYTES);

  /** Makes the bits of `mask` of the register of `size` bytes at `offset` writable. */
  allow(offset: number, size: number, mask: number, effect: number = ConfigEffect.none): void {
    for (let i = 0; i < size; i++) this.writable[offset + i] |= (mask >>> (8 * (i & 3))) & 0xff;
    this.act(offset, size, effect);
  }

  /** Writes to these bytes concern `effect`. */
  act(offset: number, size: number, effect: number): void {
    for (let i = 0; i < size; i++) this.effects[offset + i] |= effect;
  }

  clearByOnes(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) {
      this.clearedByOnes[offset + i] = (mask >>> (8 * i)) & 0xff;
    }
  }
}

const { routing, deviceControl, interrupts, bridgeControl } = ConfigEffect;

/** Fills `masks` for the function with these bytes. `barSizes` by BAR index; 0 for none. */
export function describeWrites(
  masks: ConfigMasks,
  config: Uint8Array,
  barSizes: readonly number[],
): void {
  const layout = HEADER_LAYOUT.get(config[Header.headerType]);
  masks.allow(Header.command, 2, COMMAND_WRITABLE, routing);
  masks.clearByOnes(Header.status, 2, STATUS_ERRORS);
  masks.allow(Header.cacheLineSize, 1, 0xff);
  masks.allow(Header.interruptLine, 1, 0xff);
  describeBars(masks, config, barSizes, layout);
  if (layout === HeaderType.bridge) describeBridge(masks, config);
  describeExpress(masks, config);
  describeInterrupts(masks, config);
  describeAcs(masks, config);
  describeResizableBars(masks, config);
  describeOtherExtended(masks, config);
}

/** PCI Express Base 6.x, 7.8.6.3: BAR Size is the one field that software writes. */
function describeResizableBars(masks: ConfigMasks, config: Uint8Array): void {
  const at = findExtendedCapability(config, ExtendedId.resizableBar);
  if (at === 0) return;
  const count = decodeResizableBars(config, at)?.length ?? 0;
  const { size } = ResizableBarControl;
  for (let n = 0; n < count; n++) {
    const control = at + ResizableBarOffset.control(n);
    masks.allow(control, 4, size.bits);
    masks.act(control + 1, 1, ConfigEffect.barSize);
  }
}

/** Address bits above the BAR's size are writable: that is how software learns the size. */
function describeBars(
  masks: ConfigMasks,
  config: Uint8Array,
  barSizes: readonly number[],
  layout: number,
): void {
  const count = barCount(layout);
  for (let index = 0; index < count; index++) {
    const sizeBytes = barSizes[index] ?? 0;
    if (sizeBytes === 0) continue;
    const offset = barOffset(layout, index);
    const flags = config[offset];
    const isIo = (flags & 1) !== 0;
    const lowMask = sizeBytes >= 2 ** 32 ? 0 : ~(sizeBytes - 1) >>> 0;
    masks.allow(offset, 4, lowMask & (isIo ? 0xfffffffc : 0xfffffff0), routing);
    if (isIo || (flags & 6) !== 4) continue;
    const highMask = sizeBytes > 2 ** 32 ? ~(sizeBytes / 2 ** 32 - 1) >>> 0 : 0xffffffff;
    masks.allow(offset + 4, 4, highMask, routing);
    index++;
  }
}

function describeBridge(masks: ConfigMasks, config: Uint8Array): void {
  masks.allow(BridgeHeader.primaryBus, 3, 0xffffff, routing);
  masks.allow(BridgeHeader.ioBase, 2, 0xf0f0);
  masks.clearByOnes(BridgeHeader.secondaryStatus, 2, STATUS_ERRORS);
  masks.allow(BridgeHeader.memoryBase, 4, 0xfff0fff0, routing);
  masks.allow(BridgeHeader.prefetchableBase, 4, 0xfff0fff0, routing);
  if ((config[BridgeHeader.prefetchableBase] & 0xf) === 1) {
    masks.allow(BridgeHeader.prefetchableBaseUpper, 4, 0xffffffff, routing);
    masks.allow(BridgeHeader.prefetchableLimitUpper, 4, 0xffffffff, routing);
  }
  masks.allow(BridgeHeader.ioBaseUpper, 4, 0xffffffff);
  const controls = Object.values(BridgeControl).reduce((bits, one) => bits | one.bits, 0);
  masks.allow(BridgeHeader.bridgeControl, 2, controls, bridgeControl);
}

function describeExpress(masks: ConfigMasks, config: Uint8Array): void {
  const at = findCapability(config, CapabilityId.express);
  if (at === 0) return;
  const capabilities = readLe32(config, at + Express.deviceCapabilities);
  const isResettable = DeviceCapabilities.functionLevelReset.get(capabilities) === 1;
  masks.allow(at + Express.deviceControl, 2, isResettable ? 0xffff : 0x7fff, deviceControl);
  masks.clearByOnes(at + Express.deviceStatus, 2, 0x000f);
  masks.allow(at + Express.linkControl, 2, 0x0ffb, routing);
  masks.clearByOnes(at + Express.linkStatus, 2, 0xc000);
  masks.allow(at + Express.slotControl, 2, 0x1fff);
  masks.allow(at + Express.rootControl, 2, 0x001f);
  masks.allow(at + Express.deviceControl2, 2, 0xffff);
  masks.allow(at + Express.linkControl2, 2, 0xffff);
}

function describeInterrupts(masks: ConfigMasks, config: Uint8Array): void {
  const msix = findCapability(config, CapabilityId.msiX);
  if (msix !== 0) {
    const mask = MsiXControl.enable.bits | MsiXControl.functionMask.bits;
    masks.allow(msix + MsiX.control, 2, mask, interrupts);
  }
  const msi = findCapability(config, CapabilityId.msi);
  if (msi === 0) return;
  const control = readLe16(config, msi + Msi.control);
  const is64 = MsiControl.address64.get(control) === 1;
  const mask = MsiControl.enable.bits | MsiControl.multipleEnable.bits;
  masks.allow(msi + Msi.control, 2, mask, interrupts);
  masks.allow(msi + Msi.address, 4, 0xfffffffc, interrupts);
  if (is64) masks.allow(msi + Msi.addressUpper, 4, 0xffffffff, interrupts);
  masks.allow(msi + (is64 ? Msi.data64 : Msi.data32), 2, 0xffff, interrupts);
  if (MsiControl.perVectorMasking.get(control) === 1) {
    masks.allow(msi + (is64 ? Msi.mask64 : Msi.mask32), 4, 0xffffffff, interrupts);
  }
}

/** Software can set the controls that the function implements, and no others. */
function describeAcs(masks: ConfigMasks, config: Uint8Array): void {
  const at = findExtendedCapability(config, ExtendedId.acs);
  if (at === 0) return;
  const capability = readLe16(config, at + Acs.capabilities);
  const all = Object.values(AcsBit).reduce((bits, one) => bits | one, 0);
  const enhanced = (capability & AcsEnhanced.capability) !== 0 ? AcsEnhanced.controls : 0;
  masks.allow(at + Acs.control, 2, (capability & all) | enhanced, routing);
  masks.allow(at + Acs.egressVector, 4 * egressVectorWords(capability), 0xffffffff, routing);
}

function describeOtherExtended(masks: ConfigMasks, config: Uint8Array): void {
  const ats = findExtendedCapability(config, ExtendedId.ats);
  if (ats !== 0) masks.allow(ats + Ats.control, 2, 0x801f);
  const aer = findExtendedCapability(config, ExtendedId.aer);
  if (aer !== 0) {
    masks.clearByOnes(aer + Aer.uncorrectableStatus, 4, 0xffffffff);
    masks.allow(aer + Aer.uncorrectableMask, 4, 0xffffffff);
    masks.allow(aer + Aer.uncorrectableSeverity, 4, 0xffffffff);
    masks.clearByOnes(aer + Aer.correctableStatus, 4, 0xffffffff);
    masks.allow(aer + Aer.correctableMask, 4, 0xffffffff);
  }
  const sriov = findExtendedCapability(config, ExtendedId.sriov);
  // Enabling VFs again would need the VFs' functions: only their memory decode is live.
  const decode = SriovControl.vfMemorySpaceEnable.bits;
  if (sriov !== 0) masks.allow(sriov + Sriov.control, 2, decode, routing);
}
