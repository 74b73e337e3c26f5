/**
 * The inside of a fabric that ports, regions and functions share: the epoch, the resolver, the
 * models and their ports, messages on their way to the interrupt controller, resets.
 *
 * Invariant: `epoch` moves with every change that could alter a route, and counts of routes of the
 * old epoch are folded before it does.
 */

import { assert, Copier, type Inspectable, type Tree } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import { AddressRange } from "./address-range.ts";
import type { DeviceModel } from "./device.ts";
import { DeviceMemory } from "./devices/memory.ts";
import { Dram, type RamRange } from "./dram.ts";
import type { FaultPlan } from "./faults.ts";
import { InterruptController } from "./interrupts.ts";
import type { Iommu } from "./iommu.hot.ts";
import { FunctionInterrupts, type MessageSender } from "./msix.ts";
import type { FabricNode, NodeOwner } from "./node.ts";
import { FunctionPort, type PortHost, type PortTiming } from "./port.hot.ts";
import { CpuRoute, type RegionHost } from "./region.hot.ts";
import { Resolver, type RootComplexPolicy, type Translation } from "./resolve.ts";
import type { DmaDirection, Route } from "./route.ts";
import type { Scheduler } from "./scheduler.ts";
import { buildTopology, type FabricTopology } from "./topology.ts";
import { TrafficLedger } from "./traffic.ts";

/** What a model may use of the machine that it is put into. */
export interface ModelTools {
  readonly copier: Copier;
  readonly tracer: Tracer;
  readonly scheduler: Scheduler;
  /** Sizes of the function's memory BARs by index; 0 for none. */
  readonly barSizes: readonly number[];
}

/** The model behind a function; null: dumb memory behind each of its BARs. */
export type ModelFactory = (fn: PciFunction, tools: ModelTools) => DeviceModel | null;

export interface CoreOptions {
  readonly scheduler: Scheduler;
  readonly tracer: Tracer;
  readonly policy: RootComplexPolicy;
  readonly model: ModelFactory;
}

export class FabricCore implements PortHost, RegionHost, MessageSender, NodeOwner, Inspectable {
  readonly copier = new Copier();
  readonly scheduler: Scheduler;
  readonly tracer: Tracer;
  readonly interrupts = new InterruptController();
  readonly topology: FabricTopology;
  readonly ledger: TrafficLedger;
  readonly dram: Dram;
  readonly resolver: Resolver;
  epoch = 1;
  iommu: Iommu | null = null;
  timing: PortTiming | null = null;
  faults: FaultPlan | null = null;
  private readonly ports = new Map<FabricNode, FunctionPort>();
  private readonly messages = new Map<FabricNode, FunctionInterrupts>();
  private readonly message = new Uint8Array(4);
  private readonly messageView = new DataView(this.message.buffer);
  private readonly model: ModelFactory;

  constructor(machine: Machine, options: CoreOptions, ram: readonly RamRange[]) {
    this.scheduler = options.scheduler;
    this.tracer = options.tracer;
    this.model = options.model;
    this.topology = buildTopology(machine);
    this.ledger = new TrafficLedger(this.topology.links);
    this.dram = new Dram(ram, () => this.routingChanged());
    this.resolver = new Resolver({
      roots: this.topology.roots,
      dram: this.dram,
      policy: options.policy,
      epoch: () => this.epoch,
      translationOf: (node) => this.translationOf(node),
    });
  }

  /** Puts models behind the functions. Once, when everything else is in place. */
  powerOn(): void {
    for (const node of this.topology.nodes) this.bringUp(node);
    this.routingChanged();
  }

  portOf(node: FabricNode): FunctionPort {
    const port = this.ports.get(node);
    assert(port !== undefined, "every function has a port");
    return port;
  }

  interruptsOf(node: FabricNode): FunctionInterrupts {
    const messages = this.messages.get(node);
    assert(messages !== undefined, "every function has an interrupt unit");
    return messages;
  }

  // --- what ports ask

  decide(node: FabricNode, address: number, direction: DmaDirection): Route {
    const route = this.resolver.route(node, address, direction);
    this.ledger.add(route);
    if (this.tracer.on) this.tracer.emit(Event.routeDecided, node.bdf, address, route.status);
    return route;
  }

  decideTranslated(
    node: FabricNode,
    address: number,
    phys: number,
    direction: DmaDirection,
  ): Route {
    const route = this.resolver.routeFromRootComplex(node, address, phys, direction);
    this.ledger.add(route);
    return route;
  }

  decideCpu(phys: number): CpuRoute {
    const range = new AddressRange(phys);
    const target = this.resolver.cpuTarget(range);
    const { base, limit } = range;
    if (target === null) return new CpuRoute(base, limit, this.epoch, false, null, null, 0);
    const { piece, base: barBase } = target.stop;
    const delta = barBase - target.delta + piece.origin;
    return new CpuRoute(base, limit, this.epoch, true, piece.registers, piece.memory, delta);
  }

  messageArrived(address: number, data: number): void {
    this.interrupts.messageArrived(address, data);
  }

  raise(node: FabricNode, vector: number): void {
    this.interruptsOf(node).raise(vector);
  }

  regionsChanged(node: FabricNode): void {
    this.layOut(node);
    this.routingChanged();
  }

  sendMessage(node: FabricNode, address: number, data: number): void {
    this.messageView.setUint32(0, data, true);
    if (this.tracer.on) this.tracer.emit(Event.interruptSent, node.bdf, address, data);
    this.portOf(node).write(address, this.message, 0, 4);
  }

  // --- what configuration writes cause

  routingChanged(): void {
    this.ledger.forget();
    this.epoch++;
  }

  interruptsChanged(node: FabricNode): void {
    this.messages.get(node)?.controlChanged();
  }

  functionLevelReset(node: FabricNode): void {
    if (this.tracer.on) this.tracer.emit(Event.functionReset, node.bdf);
    node.model?.reset();
    this.interruptsOf(node).reset();
    node.resetConfig();
    this.layOut(node);
    this.routingChanged();
  }

  secondaryBusReset(bridge: FabricNode): void {
    for (const node of functionsBelow(bridge)) this.functionLevelReset(node);
  }

  /** The device lost its link: as after power-on, but for the addresses it had. */
  coldReset(node: FabricNode): void {
    node.model?.reset();
    this.interruptsOf(node).reset();
    node.disableConfig();
    this.layOut(node);
  }

  inspect(): Tree {
    return {
      epoch: this.epoch,
      notes: [...this.topology.notes],
      faultsInjected: this.faults === null ? 0 : this.faults.injected,
    };
  }

  private bringUp(node: FabricNode): void {
    node.owner = this;
    node.forgetPast();
    const port = new FunctionPort(this.ports.size, node, this);
    this.ports.set(node, port);
    this.messages.set(node, new FunctionInterrupts(node, this));
    if (node.isBridge) return;
    node.model = this.model(node.fn, this.toolsFor(node)) ?? this.dumbMemory(node);
    node.model.attach(port);
    node.tellBars();
    this.layOut(node);
  }

  private toolsFor(node: FabricNode): ModelTools {
    const { copier, tracer, scheduler } = this;
    return { copier, tracer, scheduler, barSizes: memoryBarSizes(node) };
  }

  private dumbMemory(node: FabricNode): DeviceModel {
    return new DeviceMemory({ copier: this.copier, barSizes: memoryBarSizes(node) });
  }

  private layOut(node: FabricNode): void {
    if (node.model === null) return;
    const overlays = this.interruptsOf(node).overlays();
    node.layout.set(node.model.barRegions(), overlays, node.barSizes);
  }

  private translationOf(node: FabricNode): Translation {
    if (this.iommu === null) return "none";
    return this.iommu.domainOf(node).isIdentity ? "identity" : "translated";
  }
}

/** Every function below a bridge, nearest first. */
export function functionsBelow(bridge: FabricNode): FabricNode[] {
  const found = [...bridge.children];
  for (let at = 0; at < found.length; at++) found.push(...(found[at] as FabricNode).children);
  return found;
}

function memoryBarSizes(node: FabricNode): number[] {
  return node.barSizes.map((size, index) => {
    const kind = node.fn.bars.find((bar) => bar.index === index)?.kind;
    return kind === "io" ? 0 : size;
  });
}
