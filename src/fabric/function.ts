/**
 * One function as its driver has it: configuration space, BARs, interrupts, reset. The fabric's
 * side of the door to hardware (backing/interface.ts).
 */

import type {
  BackingFunction,
  BackingMachine,
  BarAddress,
  ConfigAccess,
  InterruptSink,
  MappedRegion,
} from "../backing/interface.ts";
import {
  type Bdf,
  busAddr,
  formatBdf,
  PeerlaneError,
  physFromBus,
  type Tree,
} from "../core/index.ts";
import { Header, Msi, MsiControl, MsiX, MsiXControl, MsiXEntry } from "../spec/pcie/index.ts";
import type { InterruptController, InterruptLine } from "./interrupts.ts";
import type { FunctionInterrupts } from "./msix.ts";
import type { FabricNode } from "./node.ts";
import { FabricRegion, type RegionHost } from "./region.hot.ts";

/** What a function needs of the inside of its fabric. */
export interface FunctionHost extends RegionHost {
  readonly interrupts: InterruptController;
  functionLevelReset(node: FabricNode): void;
}

export class FabricFunction implements BackingFunction {
  readonly bdf: Bdf;
  readonly machine: BackingMachine;
  readonly config: ConfigAccess;
  private readonly node: FabricNode;
  private readonly host: FunctionHost;
  private readonly messages: FunctionInterrupts;
  private lines: InterruptLine[] = [];

  constructor(
    node: FabricNode,
    messages: FunctionInterrupts,
    host: FunctionHost,
    machine: BackingMachine,
  ) {
    this.bdf = node.bdf;
    this.machine = machine;
    this.config = node.config;
    this.node = node;
    this.host = host;
    this.messages = messages;
  }

  barAddress(index: number): BarAddress | null {
    const bar = this.node.programmedBars.find((candidate) => candidate.index === index);
    if (bar === undefined) return null;
    const { apertures } = this.node.root.bridge;
    const aperture = apertures.find(
      ({ bus, sizeBytes }) => bar.base >= bus && bar.limit <= bus + sizeBytes,
    );
    if (aperture === undefined) return null;
    const bus = busAddr(bar.base);
    const facts = this.node.fn.bars.find((candidate) => candidate.index === index);
    return {
      index,
      phys: physFromBus(bus, aperture.phys, aperture.bus),
      bus,
      sizeBytes: bar.limit - bar.base,
      prefetchable: facts?.prefetchable ?? false,
    };
  }

  mapBar(index: number): MappedRegion {
    const address = this.barAddress(index);
    if (address === null) {
      throw new PeerlaneError("no-bar", "this BAR is not a memory BAR with an address", {
        place: `${formatBdf(this.bdf)} BAR${index}`,
        remedy: "choose one of its memory BARs",
        details: { bars: this.node.programmedBars.map((bar) => bar.index) },
      });
    }
    return new FabricRegion(address.phys, address.sizeBytes, this.host);
  }

  enableInterrupts(count: number, sink: InterruptSink): void {
    if (!(count >= 1)) throw this.noInterrupts("no vector was asked for");
    this.disableInterrupts();
    if (this.messages.msixVectors > 0) this.enableMsix(count, sink);
    else if (this.messages.hasMsi) this.enableMsi(count, sink);
    else throw this.noInterrupts("it has neither MSI-X nor MSI");
  }

  disableInterrupts(): void {
    const { msixCapability, msiCapability } = this.messages;
    if (msixCapability !== 0) this.changeControl(msixCapability, MsiXControl.enable.bits, 0);
    if (msiCapability !== 0) this.changeControl(msiCapability, MsiControl.enable.bits, 0);
    this.host.interrupts.release(this.lines);
    this.lines = [];
  }

  async reset(): Promise<void> {
    const saved = this.node.config.bytes.slice(0, 0x40);
    this.host.functionLevelReset(this.node);
    const words = new DataView(saved.buffer, saved.byteOffset, saved.byteLength);
    if (!this.node.isBridge) {
      for (let at = Header.bar0; at < Header.bar0 + 24; at += 4) {
        this.config.write32(at, words.getUint32(at, true));
      }
    }
    this.config.write16(Header.command, words.getUint16(Header.command, true));
    // The table is the device's own memory and is lost; its owner enables interrupts again.
    this.host.interrupts.release(this.lines);
    this.lines = [];
  }

  inspect(): Tree {
    return { bdf: formatBdf(this.bdf), vectors: this.lines.length, ...this.node.inspect() };
  }

  private enableMsix(count: number, sink: InterruptSink): void {
    const { msixVectors, msixCapability, tablePlace } = this.messages;
    if (count > msixVectors) throw this.noInterrupts(`it has ${msixVectors} MSI-X vectors`);
    const table = this.mapBar(tablePlace.bar);
    const { enable, functionMask } = MsiXControl;
    this.changeControl(msixCapability, 0, enable.bits | functionMask.bits);
    this.lines = this.host.interrupts.allocate(count, sink);
    for (const { vector, address, data } of this.lines) {
      const at = tablePlace.offset + MsiXEntry.bytes * vector;
      table.write32(at + MsiXEntry.address, address);
      table.write32(at + MsiXEntry.addressUpper, 0);
      table.write32(at + MsiXEntry.data, data);
      table.write32(at + MsiXEntry.vectorControl, 0);
      if (table.read32(at + MsiXEntry.data) !== data) {
        this.disableInterrupts();
        throw this.noInterrupts("its MSI-X table does not answer (Memory Space Enable?)");
      }
    }
    this.changeControl(msixCapability, functionMask.bits, 0);
  }

  private enableMsi(count: number, sink: InterruptSink): void {
    const { msiVectors, msiCapability: at } = this.messages;
    const vectors = 2 ** Math.ceil(Math.log2(count));
    if (vectors > msiVectors) throw this.noInterrupts(`MSI gives it ${msiVectors} vectors`);
    this.lines = this.host.interrupts.allocate(vectors, sink);
    const first = this.lines[0];
    const is64 = MsiControl.address64.get(this.config.read16(at + Msi.control)) === 1;
    this.config.write32(at + Msi.address, first.address);
    if (is64) this.config.write32(at + Msi.addressUpper, 0);
    this.config.write16(at + (is64 ? Msi.data64 : Msi.data32), first.data);
    const { multipleEnable, enable } = MsiControl;
    const vectorsCode = multipleEnable.set(0, Math.log2(vectors));
    this.changeControl(at, multipleEnable.bits, vectorsCode | enable.bits);
  }

  private changeControl(capability: number, clear: number, set: number): void {
    // Message Control is at the same place in both capabilities.
    const at = capability + MsiX.control;
    this.config.write16(at, (this.config.read16(at) & ~clear) | set);
  }

  private noInterrupts(why: string): PeerlaneError {
    return new PeerlaneError("no-interrupts", `interrupts cannot be enabled: ${why}`, {
      place: formatBdf(this.bdf),
      remedy: "poll this device, or ask for fewer vectors",
    });
  }
}
