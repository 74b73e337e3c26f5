/**
 * One function of the simulated machine: its place in the wiring, its live configuration space, what
 * the registers of it that decide about requests say now, and the model behind its BARs.
 *
 * Invariant: the decoded fields always equal what the bytes say; every configuration write that could
 * change them decodes again and then tells the fabric.
 */

import { assert, type Bdf, bdfBus, bdfDevice, type Inspectable, type Tree } from "../core/index.ts";
import type { HostBridge, PciFunction } from "../machine/index.ts";
import { BarLayout } from "./bar-layout.ts";
import {
  Acs,
  AcsOffset,
  BRIDGE_CONTROL_SECONDARY_RESET,
  CapabilityId,
  Command,
  DEVICE_CONTROL_FLR,
  Express,
  ExtendedId,
  findCapability,
  findExtendedCapability,
  Header,
  LINK_CONTROL_DISABLE,
  SRIOV_VF_MEMORY_SPACE,
  SriovOffset,
} from "./config-layout.ts";
import { ConfigEffect } from "./config-masks.ts";
import { type ConfigClient, ConfigSpace } from "./config-space.ts";
import type { DeviceModel } from "./device.ts";
import { initialConfig } from "./initial-config.ts";
import type { Link, NodeRole } from "./link.ts";

/** A memory BAR as its register stands. `limit` is one past the last bus address. */
export interface LiveBar {
  readonly index: number;
  readonly base: number;
  readonly limit: number;
}

/** A bridge's open memory window; `limit` is one past the last bus address. */
export interface LiveWindow {
  readonly base: number;
  readonly limit: number;
  readonly isPrefetchable: boolean;
}

/** What the fabric does when a node's registers change. */
export interface NodeOwner {
  routingChanged(): void;
  interruptsChanged(node: FabricNode): void;
  functionLevelReset(node: FabricNode): void;
  secondaryBusReset(node: FabricNode): void;
}

const NO_OWNER: NodeOwner = {
  routingChanged() {},
  interruptsChanged() {},
  functionLevelReset() {},
  secondaryBusReset() {},
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
  readonly barSizes: readonly number[];
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

  constructor(fn: PciFunction, root: RootBus) {
    this.bdf = fn.bdf;
    this.fn = fn;
    this.root = root;
    this.barSizes = Array.from(
      { length: 6 },
      (_, index) => fn.bars.find((bar) => bar.index === index)?.sizeBytes ?? 0,
    );
    this.config = new ConfigSpace(initialConfig(fn), this.barSizes, this);
    const { view } = this.config;
    this.acsOffset = findExtendedCapability(view, ExtendedId.acs);
    this.expressOffset = findCapability(view, CapabilityId.pciExpress);
    this.sriovOffset = findExtendedCapability(view, ExtendedId.sriov);
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

  /** Link Capabilities, Port Number: what egress control vectors count in. */
  get portNumber(): number {
    if (this.expressOffset === 0) return bdfDevice(this.bdf);
    return this.config.view.getUint8(this.expressOffset + Express.linkCapabilities + 3);
  }

  /** The egress control vector's bit for a port (or a function number). */
  isEgressBlocked(number: number): boolean {
    if ((this.acs & Acs.egressControl) === 0) return false;
    const vector = this.acsOffset + AcsOffset.egressVector;
    return ((this.config.view.getUint8(vector + (number >> 3)) >> (number & 7)) & 1) === 1;
  }

  /** Max_Payload_Size and Max_Read_Request_Size in bytes; a VF has its PF's. Conventional: 128. */
  get maxPayload(): number {
    if (this.physicalFunction !== null) return this.physicalFunction.maxPayload;
    return this.expressOffset === 0 ? 128 : 128 << Math.min(5, (this.deviceControl >> 5) & 7);
  }

  get maxReadRequest(): number {
    if (this.physicalFunction !== null) return this.physicalFunction.maxReadRequest;
    return this.expressOffset === 0 ? 128 : 128 << Math.min(5, (this.deviceControl >> 12) & 7);
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
    if ((effects & ConfigEffect.interrupts) !== 0) this.owner.interruptsChanged(this);
    if ((effects & ConfigEffect.deviceControl) !== 0) this.deviceControlWritten();
    if ((effects & ConfigEffect.bridgeControl) !== 0) {
      const control = this.config.view.getUint16(Header.bridgeControl, true);
      if ((control & BRIDGE_CONTROL_SECONDARY_RESET) !== 0) this.owner.secondaryBusReset(this);
    }
  }

  /** Configuration as after a conventional or function level reset. */
  resetConfig(): void {
    const { view } = this.config;
    if (this.fn.physicalFunction === null && !this.isBridge) {
      for (const { index } of this.liveBars) {
        const at = Header.bar0 + 4 * index;
        const low = view.getUint32(at, true);
        view.setUint32(at, low & 0xf, true);
        if ((low & 6) === 4) view.setUint32(at + 4, 0, true);
      }
    }
    this.disableConfig();
  }

  /** Decode, bus mastering and interrupts off; addresses stay. */
  disableConfig(): void {
    const { view } = this.config;
    view.setUint16(Header.command, 0, true);
    const msix = findCapability(view, CapabilityId.msix);
    if (msix !== 0) view.setUint16(msix + 2, view.getUint16(msix + 2, true) & 0x3fff, true);
    const msi = findCapability(view, CapabilityId.msi);
    if (msi !== 0) view.setUint16(msi + 2, view.getUint16(msi + 2, true) & 0xff8e, true);
    this.decode();
    this.owner.interruptsChanged(this);
    this.owner.routingChanged();
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
    return this.config.view.getUint16(this.expressOffset + Express.deviceControl, true);
  }

  private deviceControlWritten(): void {
    const at = this.expressOffset + Express.deviceControl;
    const value = this.config.view.getUint16(at, true);
    if ((value & DEVICE_CONTROL_FLR) !== 0) {
      // Initiate Function Level Reset reads as 0.
      this.config.view.setUint16(at, value & ~DEVICE_CONTROL_FLR, true);
      this.owner.functionLevelReset(this);
    } else {
      this.owner.routingChanged();
    }
  }

  /** VF Memory Space Enable in the physical function governs all of its VFs. */
  private isVfMemorySpaceEnabled(): boolean {
    const physical = this.physicalFunction;
    if (physical === null || physical.sriovOffset === 0) return true;
    const at = physical.sriovOffset + SriovOffset.control;
    return (physical.config.view.getUint16(at, true) & SRIOV_VF_MEMORY_SPACE) !== 0;
  }

  private decode(): void {
    const { view } = this.config;
    const command = view.getUint16(Header.command, true);
    this.busMaster = (command & Command.busMaster) !== 0;
    this.memorySpace = (command & Command.memorySpace) !== 0;
    this.acs = this.acsOffset === 0 ? 0 : view.getUint16(this.acsOffset + AcsOffset.control, true);
    this.liveBars = this.fn.physicalFunction === null ? this.decodeBars(view) : this.snapshotBars();
    if (!this.isBridge) return;
    this.secondary = view.getUint8(Header.secondaryBus);
    this.subordinate = view.getUint8(Header.subordinateBus);
    this.liveWindows = decodeWindows(view);
    if (this.linkBelow !== null && this.expressOffset !== 0) {
      const control = view.getUint16(this.expressOffset + Express.linkControl, true);
      this.linkBelow.isDisabled = (control & LINK_CONTROL_DISABLE) !== 0;
    }
  }

  private decodeBars(view: DataView): LiveBar[] {
    const bars: LiveBar[] = [];
    for (const { index, kind } of this.fn.bars) {
      const sizeBytes = this.barSizes[index] ?? 0;
      if (kind === "io" || sizeBytes === 0 || index > 5) continue;
      const at = Header.bar0 + 4 * index;
      const low = (view.getUint32(at, true) & 0xfffffff0) >>> 0;
      const high = kind === "memory64" ? view.getUint32(at + 4, true) : 0;
      const base = low + high * 2 ** 32;
      // Software probing a BAR's size leaves it at the top of its space: beyond any real address.
      if (base !== 0 && high < 2 ** 20) bars.push({ index, base, limit: base + sizeBytes });
    }
    return bars;
  }

  /** A VF's own BARs read as zero; the snapshot knows where the VF BARs of its PF put it. */
  private snapshotBars(): LiveBar[] {
    return this.fn.bars
      .filter(({ kind, address, sizeBytes }) => kind !== "io" && address > 0 && sizeBytes !== null)
      .map(({ index, address, sizeBytes }) => {
        assert(sizeBytes !== null, "filtered above");
        return { index, base: address, limit: address + sizeBytes };
      });
  }
}

function decodeWindows(view: DataView): LiveWindow[] {
  const windows: LiveWindow[] = [];
  const base = (view.getUint16(Header.memoryBase, true) & 0xfff0) * 2 ** 16;
  const limit = (view.getUint16(Header.memoryBase + 2, true) & 0xfff0) * 2 ** 16 + 2 ** 20;
  if (base < limit && base !== 0) windows.push({ base, limit, isPrefetchable: false });
  const low = view.getUint16(Header.prefetchableBase, true);
  const lowLimit = view.getUint16(Header.prefetchableBase + 2, true);
  const is64 = (low & 0xf) === 1;
  const high = is64 ? view.getUint32(Header.prefetchableBaseUpper, true) : 0;
  const highLimit = is64 ? view.getUint32(Header.prefetchableLimitUpper, true) : 0;
  const from = (low & 0xfff0) * 2 ** 16 + high * 2 ** 32;
  const to = (lowLimit & 0xfff0) * 2 ** 16 + highLimit * 2 ** 32 + 2 ** 20;
  if (from < to && from !== 0) windows.push({ base: from, limit: to, isPrefetchable: true });
  return windows;
}
