/**
 * The simulated machine, built from a snapshot: functions with live configuration space, device
 * models behind their BARs, routes between them, host memory, an IOMMU, interrupts and time.
 * Drivers use it as a `BackingMachine`; whoever runs the simulation also asks it for routes,
 * traffic and contents, and breaks things on purpose.
 *
 * Invariants: models run only inside `poll` and `clock.sleep`; interrupt sinks are called only
 * there.
 *
 * Left out: I/O space, INTx, hot add of functions that the snapshot does not have.
 */

import type { BackingMachine, DriverClock, HostRegion } from "../backing/interface.ts";
import {
  type Bdf,
  formatBdf,
  PeerlaneError,
  type PhysAddr,
  type Prng,
  type Tree,
} from "../core/index.ts";
import type { IommuMode, Machine } from "../machine/index.ts";
import { Event, Tracer } from "../trace/index.ts";
import { FabricCore, functionsBelow, type ModelFactory } from "./core.ts";
import type { DeviceModel } from "./device.ts";
import type { Dram } from "./dram.ts";
import { FaultPlan, type FaultRule } from "./faults.ts";
import { FabricFunction } from "./function.ts";
import { FabricIommu } from "./iommu-control.ts";
import type { FabricNode } from "./node.ts";
import { layOutRam } from "./ram-layout.ts";
import { reportRoute } from "./report.ts";
import type { RootComplexPolicy } from "./resolve.ts";
import { DmaDirection, type RouteReport } from "./route.ts";
import { Scheduler } from "./scheduler.ts";
import { FabricTiming, type TimingOptions } from "./timing.ts";
import type { HostMemoryTraffic, LinkTraffic, PeerTraffic } from "./traffic.ts";

export interface FabricOptions {
  /** Shared by fabrics that live in one time; a new one when absent. */
  readonly scheduler?: Scheduler | undefined;
  /** One that is off when absent. */
  readonly tracer?: Tracer | undefined;
  /** `functional` (the default): everything lands at once. `timed`: links and hops take time. */
  readonly mode?: "functional" | "timed" | undefined;
  readonly timing?: TimingOptions | undefined;
  /** Host memory; 64 GiB when absent (it costs only what is used). */
  readonly dramBytes?: number | undefined;
  /** `off` when absent. */
  readonly iommu?: IommuMode | undefined;
  /** Forwards everything when absent. */
  readonly rootComplex?: RootComplexPolicy | undefined;
  readonly model?: ModelFactory | undefined;
}

const DRAM_BYTES = 64 * 2 ** 30;
const TRACE_RECORDS = 4096;
const FORWARD_ALL: RootComplexPolicy = { peerWrites: "forward", peerReads: "forward" };

/** Builds the simulated machine of a snapshot. */
export function buildFabric(machine: Machine, options: FabricOptions = {}): Fabric {
  return new Fabric(machine, options);
}

export class Fabric implements BackingMachine {
  readonly name: string;
  readonly clock: DriverClock;
  readonly scheduler: Scheduler;
  readonly tracer: Tracer;
  private readonly timing: FabricTiming | null = null;
  private readonly core: FabricCore;
  private control: FabricIommu | null = null;
  private readonly dram: Dram;
  private readonly functions = new Map<Bdf, FabricFunction>();

  constructor(machine: Machine, options: FabricOptions) {
    this.name = machine.name;
    const scheduler = options.scheduler ?? new Scheduler();
    this.scheduler = scheduler;
    scheduler.share();
    this.tracer = options.tracer ?? new Tracer(() => scheduler.nowNs(), TRACE_RECORDS);
    const ram = layOutRam(machine, options.dramBytes ?? DRAM_BYTES);
    const core = new FabricCore(
      machine,
      {
        scheduler,
        tracer: this.tracer,
        policy: options.rootComplex ?? FORWARD_ALL,
        model: options.model ?? (() => null),
      },
      ram,
    );
    this.core = core;
    this.dram = core.dram;
    this.clock = {
      nowNs: () => scheduler.nowNs(),
      sleep: async (ns) => scheduler.sleep(ns, () => core.interrupts.deliver()),
    };
    if (options.mode === "timed") {
      const timing = new FabricTiming(core, options.timing ?? {});
      core.timing = timing;
      this.timing = timing;
    }
    this.bootIommu(options.iommu ?? "off");
    core.powerOn();
  }

  /** Null in mode `off`. */
  get iommu(): FabricIommu | null {
    return this.control;
  }

  /**
   * The IOMMU as after a boot with this mode: no domain and no mapping of before is left. For one
   * who asks for routes under each mode, before any driver has the machine.
   */
  bootIommu(mode: IommuMode): void {
    const { core, tracer, timing } = this;
    const changed = (): void => core.routingChanged();
    const iommu =
      mode === "off" ? null : new FabricIommu(core.topology.nodes, mode, tracer, changed);
    this.control = iommu;
    core.iommu = iommu === null ? null : iommu.hot;
    if (iommu !== null && timing !== null) iommu.listenForMisses(timing);
    changed();
  }

  // --- the door to hardware

  open(bdf: Bdf): FabricFunction {
    let fn = this.functions.get(bdf);
    if (fn === undefined) {
      const node = this.nodeOf(bdf);
      fn = new FabricFunction(node, this.core.interruptsOf(node), this.core, this);
      this.functions.set(bdf, fn);
    }
    return fn;
  }

  /** `purpose` names the allocation in traffic reports: `control`, `payload`, ... */
  allocateHost(sizeBytes: number, alignment = 4096, purpose = "host"): HostRegion {
    return this.dram.allocate(sizeBytes, alignment, purpose);
  }

  freeHost(region: HostRegion): void {
    this.dram.free(region);
  }

  /** Runs models that asked for it, due timers, and interrupt sinks; returns how many. */
  poll(): number {
    return this.scheduler.poll() + this.core.interrupts.deliver();
  }

  // --- for whoever runs the simulation

  /** The model behind a function; null behind bridges. */
  modelOf(bdf: Bdf): DeviceModel | null {
    return this.nodeOf(bdf).model;
  }

  /**
   * Where a request of `initiator` to `dmaAddress` would go, hop by hop, without moving anything.
   * `isTranslated`: with the ATS address type Translated.
   */
  route(
    initiator: Bdf,
    dmaAddress: number,
    direction: "read" | "write",
    isTranslated = false,
  ): RouteReport {
    const way = direction === "read" ? DmaDirection.read : DmaDirection.write;
    return reportRoute(this.core, this.nodeOf(initiator), dmaAddress, way, isTranslated);
  }

  linkTraffic(): readonly LinkTraffic[] {
    return this.core.ledger.linkTraffic();
  }

  /** Speed and width of the link below a downstream port. Throws `no-link`. */
  linkBelow(port: Bdf): { readonly generation: number; readonly width: number } {
    const link = this.nodeOf(port).linkBelow;
    if (link === null) throw noLink(port);
    return { generation: link.facts.generation, width: link.facts.width };
  }

  /** Payload and control apart by requester and by the allocation hit. */
  hostMemoryTraffic(): readonly HostMemoryTraffic[] {
    return this.core.ledger.hostMemoryTraffic();
  }

  peerTraffic(): readonly PeerTraffic[] {
    return this.core.ledger.peerTraffic();
  }

  resetTraffic(): void {
    this.core.ledger.reset();
  }

  /**
   * The owner's view of what is behind a BAR: never through a route, so that it shows what really
   * landed. Throws `not-memory` where there are registers or nothing.
   */
  peek(bdf: Bdf, bar: number, offset: number, target: Uint8Array): void {
    const node = this.nodeOf(bdf);
    const sizeBytes = node.barSizes[bar] ?? 0;
    let done = 0;
    while (done < target.length) {
      const at = offset + done;
      const piece = node.layout.pieceAt(bar, at, sizeBytes);
      if (piece.memory === null || at >= sizeBytes) {
        throw new PeerlaneError("not-memory", "there is no memory at this place of the BAR", {
          place: `${formatBdf(bdf)} BAR${bar}`,
          remedy: "peek at memory that a model put behind the BAR",
          details: { offset: at },
        });
      }
      const run = Math.min(target.length - done, piece.limit - at);
      piece.memory.read(at - piece.origin, target, done, run);
      done += run;
    }
  }

  /** The owner's view of host memory. */
  peekHost(address: PhysAddr, target: Uint8Array): void {
    this.dram.peek(address, target);
  }

  /**
   * Takes the link of a function down or up: the one above an endpoint or a switch, the one below a
   * downstream port. Functions below are reset when it goes down; their addresses are kept, as a
   * hotplug driver would assign the same again.
   */
  setLink(bdf: Bdf, isUp: boolean): void {
    const node = this.nodeOf(bdf);
    const link = node.linkBelow ?? node.linkAbove;
    if (link === null) throw noLink(bdf);
    const upper = this.nodeOf(link.upper);
    if (!isUp && link.isTrained) {
      for (const below of functionsBelow(upper)) this.core.coldReset(below);
    }
    link.isTrained = isUp;
    if (this.tracer.on) this.tracer.emit(Event.linkChanged, link.upper, isUp ? 1 : 0);
    this.core.routingChanged();
  }

  /** Surprise removal: the function and everything below it answer nothing from now on. */
  remove(bdf: Bdf): void {
    const node = this.nodeOf(bdf);
    for (const gone of [node, ...functionsBelow(node)]) gone.isPresent = false;
    this.core.routingChanged();
  }

  /** Makes transfers fail by a seeded plan; null stops it. */
  injectFaults(rules: readonly FaultRule[] | null, prng: Prng): void {
    this.core.faults = rules === null ? null : new FaultPlan(rules, prng);
  }

  inspect(): Tree {
    const functions: Record<string, Tree> = {};
    for (const node of this.core.topology.nodes) functions[formatBdf(node.bdf)] = node.inspect();
    return {
      name: this.name,
      scheduler: this.scheduler.inspect(),
      routing: this.core.inspect(),
      hostMemory: this.dram.inspect(),
      iommu: this.iommu === null ? null : this.iommu.inspect(),
      interrupts: this.core.interrupts.inspect(),
      timing: this.timing === null ? null : this.timing.inspect(),
      traffic: this.core.ledger.inspect(),
      functions,
    };
  }

  private nodeOf(bdf: Bdf): FabricNode {
    const node = this.core.topology.byBdf.get(bdf);
    if (node !== undefined) return node;
    const all = this.core.topology.nodes.map((one) => formatBdf(one.bdf));
    throw new PeerlaneError("no-such-function", `this machine has no function ${formatBdf(bdf)}`, {
      remedy: `choose one of ${all.slice(0, 12).join(", ")}${all.length > 12 ? ", ..." : ""}`,
      details: { functions: all },
    });
  }
}

function noLink(bdf: Bdf): PeerlaneError {
  return new PeerlaneError("no-link", "this function is on no PCI Express link", {
    place: formatBdf(bdf),
    remedy: "choose a port or a device below one",
  });
}
