/**
 * One function of the simulated machine: its place in the wiring, its live configuration space,
 * what the registers of it that decide about requests say now, and the model behind its BARs.
 *
 * Invariant: the decoded fields always equal what the bytes say; every configuration write that
 * could change them decodes again and then tells the fabric.
 */

import { type Bdf, bdfBus, bdfDevice, type Inspectable, type Tree } from "../core/index.ts";
import { type HostBridge, type PciFunction, synthesizeConfig } from "../machine/index.ts";
import {
  Acs,
  AcsBit,
  BridgeControl,
  BridgeHeader,
  barOffset,
  CapabilityId,
  Command,
  DeviceControl,
  Express,
  ExtendedId,
  findCapability,
  findExtendedCapability,
  Header,
  LinkCapabilities,
  LinkControl,
  Msi,
  MsiControl,
  MsiX,
  MsiXControl,
  payloadFromCode,
  readLe16,
  readLe32,
  Sriov,
  SriovControl,
  writeLe16,
  writeLe32,
} from "../spec/pcie/index.ts";
import { BarLayout } from "./bar-layout.ts";
import { ConfigEffect } from "./config-masks.ts";
import { type ConfigClient, ConfigSpace } from "./config-space.ts";
import type { DeviceModel } from "./device.ts";
import type { Link, NodeRole } from "./link.ts";
import { type LiveBar, type LiveWindow, liveBars, liveWindows } from "./live-decode.ts";
import { resizeBars } from "./resize-bars.ts";

/** What the fabric does when a node's registers change. */
export interface NodeOwner {
  routingChanged(): void;
  interruptsChanged(node: FabricNode): void;
  functionLevelReset(node: FabricNode): void;
  secondaryBusReset(node: FabricNode): void;
  regionsChanged(node: FabricNode): void;
}

/** What a function without a PCI Express capability is charged with. */
const CONVENTIONAL_PAYLOAD = 128;
/** Status without its write-one-to-clear error bits. */
const STATUS_WITHOUT_ERRORS = 0x06ff;

const NO_OWNER: NodeOwner = {
  routingChanged() {},
  interruptsChanged() {},
  functionLevelReset() {},
  secondaryBusReset() {},
  regionsChanged() {},
};

/** A host bridge with its root bus. */
export class RootBus {
  readonly index: number;
  readonly bridge: HostBridge;
  readonly children: FabricNode[] = [];

  constructor(index: number, bridge: HostBridge) {
    this.index = index;
    this.bridge = bridge;
  }
}

export class FabricNode implements ConfigClient, Inspectable {
  readonly bdf: Bdf;
  readonly fn: PciFunction;
  readonly root: RootBus;
  readonly config: ConfigSpace;
  /** Sizes of memory and I/O BARs by index; 0 for none. */
  readonly barSizes: number[];
  parent: FabricNode | null = null;
  readonly children: FabricNode[] = [];
  physicalFunction: FabricNode | null = null;
  role: NodeRole = "endpoint";
  linkAbove: Link | null = null;
  linkBelow: Link | null = null;
  owner: NodeOwner = NO_OWNER;
  /** False after surprise removal. */
  isPresent = true;

  model: DeviceModel | null = null;
  readonly layout = new BarLayout();

  busMaster = false;
  secondary = 0;
  subordinate = 0;
  /** ACS Control; 0 without the capability. */
  acs = 0;
  readonly acsOffset: number;
  readonly expressOffset: number;
  private readonly sriovOffset: number;
  private memorySpace = false;
  private liveBars: LiveBar[] = [];
  private liveWindows: LiveWindow[] = [];

  /** `barSizes` by index: known or assumed; 0 for none. */
  constructor(fn: PciFunction, root: RootBus, barSizes: number[]) {
    this.bdf = fn.bdf;
    this.fn = fn;
    this.root = root;
    this.barSizes = barSizes;
    this.config = new ConfigSpace(synthesizeConfig(fn), barSizes, this);
    const { bytes } = this.config;
    this.acsOffset = findExtendedCapability(bytes, ExtendedId.acs);
    this.expressOffset = findCapability(bytes, CapabilityId.express);
    this.sriovOffset = findExtendedCapability(bytes, ExtendedId.sriov);
    this.decode();
  }

  attachTo(parent: FabricNode): void {
    this.parent = parent;
    parent.children.push(this);
  }

  /** The link that this downstream port leads to. */
  attachLink(link: Link): void {
    this.linkBelow = link;
    this.decode();
  }

  get isBridge(): boolean {
    return this.fn.bridge !== null;
  }

  /** Functions that answer on the same link: one device (a link has one device below it). */
  get siblings(): readonly FabricNode[] {
    return this.parent === null ? this.root.children : this.parent.children;
  }

  /** True when both are functions of one device. */
  isSameDevice(other: FabricNode): boolean {
    if (this.parent === null || this.linkAbove === null) {
      const mine = bdfDevice(this.bdf) === bdfDevice(other.bdf);
      return mine && bdfBus(this.bdf) === bdfBus(other.bdf) && this.root === other.root;
    }
    return this.parent === other.parent;
  }

  /** The memory BARs that decode now: none while Memory Space Enable is clear. */
  get bars(): readonly LiveBar[] {
    return this.isMemorySpaceEnabled ? this.liveBars : [];
  }

  /** Where the BARs would decode with Memory Space Enable set. */
  get programmedBars(): readonly LiveBar[] {
    return this.liveBars;
  }

  /** The open memory windows: none while Memory Space Enable is clear. */
  get windows(): readonly LiveWindow[] {
    return this.memorySpace ? this.liveWindows : [];
  }

  get programmedWindows(): readonly LiveWindow[] {
    return this.liveWindows;
  }

  get isMemorySpaceEnabled(): boolean {
    return this.fn.physicalFunction === null ? this.memorySpace : this.isVfMemorySpaceEnabled();
  }

  /**
   * Link Capabilities, Port Number: what egress control vectors count in. It is not among the
   * snapshot's facts: where there are no dumped bytes, the device number stands for it.
   */
  get portNumber(): number {
    const at = this.expressOffset + Express.linkCapabilities;
    const isDumped = this.fn.config !== null && this.fn.config.length >= at + 4;
    if (this.expressOffset === 0 || !isDumped) return bdfDevice(this.bdf);
    return LinkCapabilities.portNumber.get(readLe32(this.config.bytes, at));
  }

  /** The egress control vector's bit for a port (or a function number). */
  isEgressBlocked(number: number): boolean {
    if ((this.acs & AcsBit.egressControl) === 0) return false;
    const vector = this.acsOffset + Acs.egressVector;
    return ((this.config.bytes[vector + (number >> 3)] >> (number & 7)) & 1) === 1;
  }

  /** Max_Payload_Size and Max_Read_Request_Size in bytes; a VF has its PF's. Conventional: 128. */
  get maxPayload(): number {
    if (this.physicalFunction !== null) return this.physicalFunction.maxPayload;
    if (this.expressOffset === 0) return CONVENTIONAL_PAYLOAD;
    return payloadFromCode(DeviceControl.maxPayload.get(this.deviceControl));
  }

  get maxReadRequest(): number {
    if (this.physicalFunction !== null) return this.physicalFunction.maxReadRequest;
    if (this.expressOffset === 0) return CONVENTIONAL_PAYLOAD;
    return payloadFromCode(DeviceControl.maxReadRequest.get(this.deviceControl));
  }

  get isLinkUp(): boolean {
    return this.linkAbove === null || this.linkAbove.isUp;
  }

  /** Link Disable, or a link that is down: nothing below answers. */
  isReachable(): boolean {
    let at: FabricNode | null = this;
    while (at !== null) {
      if (!at.isPresent || !at.isLinkUp) return false;
      at = at.parent;
    }
    return true;
  }

  isConfigReachable(): boolean {
    return this.isReachable();
  }

  configWritten(effects: number): void {
    if ((effects & ConfigEffect.routing) !== 0) {
      this.decode();
      this.owner.routingChanged();
    }
    if ((effects & ConfigEffect.barSize) !== 0 && resizeBars(this)) {
      this.config.sizesChanged();
      this.decode();
      this.owner.regionsChanged(this);
    }
    if ((effects & ConfigEffect.interrupts) !== 0) this.owner.interruptsChanged(this);
    if ((effects & ConfigEffect.deviceControl) !== 0) this.deviceControlWritten();
    if ((effects & ConfigEffect.bridgeControl) !== 0) {
      const control = readLe16(this.config.bytes, BridgeHeader.bridgeControl);
      if (BridgeControl.secondaryBusReset.get(control) === 1) this.owner.secondaryBusReset(this);
    }
  }

  /** Configuration as after a conventional or function level reset. */
  resetConfig(): void {
    const { bytes } = this.config;
    if (this.fn.physicalFunction === null && !this.isBridge) {
      for (const { index } of this.liveBars) {
        const at = barOffset(this.fn.headerType, index);
        const low = readLe32(bytes, at);
        writeLe32(bytes, at, low & 0xf);
        if ((low & 6) === 4) writeLe32(bytes, at + 4, 0);
      }
    }
    this.disableConfig();
  }

  /** Decode, bus mastering and interrupts off; addresses stay. */
  disableConfig(): void {
    writeLe16(this.config.bytes, Header.command, 0);
    this.disableInterrupts();
    this.decode();
    this.owner.interruptsChanged(this);
    this.owner.routingChanged();
  }

  /**
   * A dump shows interrupts that a driver enabled which does not run here, with a table that is not
   * in the dump, and error bits of the machine's past.
   */
  forgetPast(): void {
    this.disableInterrupts();
    const { bytes } = this.config;
    writeLe16(bytes, Header.status, readLe16(bytes, Header.status) & STATUS_WITHOUT_ERRORS);
  }

  inspect(): Tree {
    return {
      role: this.role,
      busMaster: this.busMaster,
      memorySpace: this.isMemorySpaceEnabled,
      present: this.isPresent,
      bars: this.liveBars.map(({ index, base, limit }) => ({ index, base, limit })),
      ...(this.isBridge && {
        secondary: this.secondary,
        subordinate: this.subordinate,
        windows: this.liveWindows.map(({ base, limit }) => ({ base, limit })),
        acsControl: this.acs,
      }),
      model: this.model === null ? null : { kind: this.model.kind, ...this.model.inspect() },
    };
  }

  private get deviceControl(): number {
    return readLe16(this.config.bytes, this.expressOffset + Express.deviceControl);
  }

  private deviceControlWritten(): void {
    const { deviceControl } = this;
    if (DeviceControl.initiateFlr.get(deviceControl) === 0) {
      // Payload sizes are part of a route's cost.
      this.owner.routingChanged();
      return;
    }
    // The bit reads as 0.
    const at = this.expressOffset + Express.deviceControl;
    writeLe16(this.config.bytes, at, DeviceControl.initiateFlr.set(deviceControl, 0));
    this.owner.functionLevelReset(this);
  }

  private disableInterrupts(): void {
    const { bytes } = this.config;
    const msix = findCapability(bytes, CapabilityId.msiX);
    if (msix !== 0) {
      const bits = MsiXControl.enable.bits | MsiXControl.functionMask.bits;
      const at = msix + MsiX.control;
      writeLe16(bytes, at, readLe16(bytes, at) & ~bits);
    }
    const msi = findCapability(bytes, CapabilityId.msi);
    if (msi !== 0) {
      const bits = MsiControl.enable.bits | MsiControl.multipleEnable.bits;
      const at = msi + Msi.control;
      writeLe16(bytes, at, readLe16(bytes, at) & ~bits);
    }
  }

  /** VF Memory Space Enable in the physical function governs all of its VFs. */
  private isVfMemorySpaceEnabled(): boolean {
    const physical = this.physicalFunction;
    if (physical === null || physical.sriovOffset === 0) return true;
    const control = readLe16(physical.config.bytes, physical.sriovOffset + Sriov.control);
    return SriovControl.vfMemorySpaceEnable.get(control) === 1;
  }

  /** Tells the model where its memory BARs decode. */
  tellBars(): void {
    const model = this.model;
    if (model?.barMoved === undefined) return;
    for (let index = 0; index < this.barSizes.length; index++) {
      const bar = this.bars.find((candidate) => candidate.index === index);
      model.barMoved(index, bar === undefined ? -1 : bar.base);
    }
  }

  private decode(): void {
    const { bytes } = this.config;
    const command = readLe16(bytes, Header.command);
    this.busMaster = Command.busMasterEnable.get(command) === 1;
    this.memorySpace = Command.memorySpaceEnable.get(command) === 1;
    this.acs = this.acsOffset === 0 ? 0 : readLe16(bytes, this.acsOffset + Acs.control);
    this.liveBars = liveBars(this.fn, bytes, this.barSizes);
    this.tellBars();
    if (!this.isBridge) return;
    this.secondary = bytes[BridgeHeader.secondaryBus];
    this.subordinate = bytes[BridgeHeader.subordinateBus];
    this.liveWindows = liveWindows(bytes);
    if (this.linkBelow !== null && this.expressOffset !== 0) {
      const control = readLe16(bytes, this.expressOffset + Express.linkControl);
      this.linkBelow.isDisabled = LinkControl.linkDisable.get(control) === 1;
    }
  }
}
