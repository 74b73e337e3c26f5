/**
 * A function's way onto the bus, per DMA: find the decided route, move the bytes once, count. The
 * decision itself is the resolver's, made once per range and epoch.
 *
 * Invariants: bytes move at the call, from the source array to the target's memory, with no array
 * in between; a read that fails moves nothing; a write lands up to the first range that fails, as
 * posted writes do. A transfer that spans ranges is cut at their ends. No allocation on a cached
 * route in functional mode.
 */

import { type Bdf, type Copier, DmaStatus, type Span, type SparseMemory } from "../core/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import type { DevicePort, RegisterHandler, SettleClient, TimerClient } from "./device.ts";
import type { FaultPlan } from "./faults.ts";
import type { IoDomain, Iommu } from "./iommu.hot.ts";
import type { FabricNode } from "./node.ts";
import { readRegisters, writeRegisters } from "./registers.hot.ts";
import { DmaDirection, type Route, RouteCount, TargetKind } from "./route.ts";
import { RouteCache } from "./route-cache.hot.ts";
import type { Runnable, Scheduler } from "./scheduler.ts";

/** The fabric as its ports see it. */
export interface PortHost {
  /** Moves with every change that could alter a route. */
  readonly epoch: number;
  readonly copier: Copier;
  readonly tracer: Tracer;
  readonly scheduler: Scheduler;
  readonly iommu: Iommu | null;
  readonly timing: PortTiming | null;
  readonly faults: FaultPlan | null;
  /** The route from `node` to `address`; the slow path. */
  decide(node: FabricNode, address: number, direction: DmaDirection): Route;
  /** The route on from the root complex after translation to `phys`. */
  decideTranslated(node: FabricNode, address: number, phys: number, direction: DmaDirection): Route;
  messageArrived(address: number, data: number): void;
  raise(node: FabricNode, vector: number): void;
  regionsChanged(node: FabricNode): void;
}

/** Timed mode: told of each transfer, and asked when all of them have landed. */
export interface PortTiming {
  add(port: number, route: Route, length: number): void;
  settle(port: number, client: SettleClient, token: number): void;
}

/** A zeroed page: what reads of holes lend. Never written. */
const ZEROS = new Uint8Array(4096);

export class FunctionPort implements DevicePort, Runnable {
  readonly bdf: Bdf;
  /** Number of the port in its fabric. */
  readonly index: number;
  isReady = false;
  private readonly node: FabricNode;
  private readonly host: PortHost;
  private readonly reads = new RouteCache();
  private readonly writes = new RouteCache();
  /** Routes on from the root complex, by physical address. */
  private readonly translatedReads = new RouteCache();
  private readonly translatedWrites = new RouteCache();
  /** Register words that `borrow` lends. */
  private readonly scratch = new Uint8Array(4096);
  /** Result of {@link translate}: the route at the physical address, and how far the run goes. */
  private runRoute: Route | null = null;
  private runPhys = 0;
  private runLength = 0;

  constructor(index: number, node: FabricNode, host: PortHost) {
    this.index = index;
    this.bdf = node.bdf;
    this.node = node;
    this.host = host;
  }

  write(address: number, source: Uint8Array, sourceOffset: number, length: number): number {
    const faults = this.host.faults;
    if (faults !== null) {
      const status = faults.statusFor(this.bdf, DmaDirection.write);
      if (status !== DmaStatus.ok) return this.failed(address, length, status);
    }
    let done = 0;
    while (done < length) {
      const at = address + done;
      const route = this.routeFor(at, DmaDirection.write);
      let run = route.limit - at;
      if (run > length - done || run <= 0) run = length - done;
      const status =
        route.kind === TargetKind.translate
          ? this.writeTranslated(at, source, sourceOffset + done, run)
          : this.deliver(route, at, source, sourceOffset + done, run);
      if (status !== DmaStatus.ok) return this.failed(at, run, status);
      done += run;
    }
    const tracer = this.host.tracer;
    if (tracer.on) tracer.emit(Event.dmaWrite, this.bdf, address, length);
    return DmaStatus.ok;
  }

  read(address: number, target: Uint8Array, targetOffset: number, length: number): number {
    const first = this.routeFor(address, DmaDirection.read);
    const isSimple = address + length <= first.limit && first.kind !== TargetKind.translate;
    // One range without translation needs no look ahead: it moves everything or nothing.
    if (!isSimple || this.host.faults !== null) {
      const status = this.checkRead(address, length);
      if (status !== DmaStatus.ok) return this.failed(address, length, status);
    }
    let done = 0;
    while (done < length) {
      const at = address + done;
      const route = this.routeFor(at, DmaDirection.read);
      let run = route.limit - at;
      if (run > length - done) run = length - done;
      const result =
        route.kind === TargetKind.translate
          ? this.readTranslated(at, target, targetOffset + done, run)
          : this.fetch(route, at, target, targetOffset + done, run);
      if (result !== DmaStatus.ok) return this.failed(at, run, result);
      done += run;
    }
    const tracer = this.host.tracer;
    if (tracer.on) tracer.emit(Event.dmaRead, this.bdf, address, length);
    return DmaStatus.ok;
  }

  borrow(address: number, length: number, span: Span): number {
    const faults = this.host.faults;
    if (faults !== null) {
      const status = faults.statusFor(this.bdf, DmaDirection.read);
      if (status !== DmaStatus.ok) return this.failed(address, length, status);
    }
    let route = this.routeFor(address, DmaDirection.read);
    let at = address;
    let run = length;
    if (route.kind === TargetKind.translate) {
      const status = this.translate(address, length, DmaDirection.read);
      if (status !== DmaStatus.ok) return this.failed(address, length, status);
      route = this.runRoute as Route;
      at = this.runPhys;
      run = this.runLength;
    }
    if (run > route.limit - at) run = route.limit - at;
    const status = this.lend(route, at, run, span);
    if (status !== DmaStatus.ok) return this.failed(address, length, status);
    this.count(route, span.length, DmaDirection.read);
    const tracer = this.host.tracer;
    if (tracer.on) tracer.emit(Event.dmaRead, this.bdf, address, span.length);
    return DmaStatus.ok;
  }

  interrupt(vector: number): void {
    this.host.raise(this.node, vector);
  }

  wake(): void {
    this.host.scheduler.wake(this);
  }

  run(): void {
    const model = this.node.model;
    if (model !== null && this.node.isPresent) model.step();
  }

  settle(client: SettleClient, token: number): void {
    const timing = this.host.timing;
    if (timing === null) client.settled(token);
    else timing.settle(this.index, client, token);
  }

  regionsChanged(): void {
    this.host.regionsChanged(this.node);
  }

  nowNs(): number {
    return this.host.scheduler.nowNs();
  }

  after(delayNs: number, client: TimerClient, token: number): void {
    this.host.scheduler.after(delayNs, client, token);
  }

  private routeFor(address: number, direction: DmaDirection): Route {
    const cache = direction === DmaDirection.read ? this.reads : this.writes;
    const cached = cache.find(address, this.host.epoch);
    if (cached !== null) return cached;
    const route = this.host.decide(this.node, address, direction);
    cache.keep(route);
    return route;
  }

  /** Moves `length` bytes to the end of a route that covers them. */
  private deliver(
    route: Route,
    address: number,
    source: Uint8Array,
    sourceOffset: number,
    length: number,
  ): number {
    const offset = address - route.delta;
    switch (route.kind) {
      case TargetKind.memory:
        (route.memory as SparseMemory).write(offset, source, sourceOffset, length);
        break;
      case TargetKind.host:
        this.host.copier.copy(route.bytes, offset, source, sourceOffset, length);
        break;
      case TargetKind.registers: {
        const registers = route.registers as RegisterHandler;
        // Counted first: a register that changes routes makes the ledger forget this one.
        this.count(route, length, DmaDirection.write);
        return writeRegisters(registers, offset, source, sourceOffset, length);
      }
      case TargetKind.interrupt:
        return this.sendMessage(route, address, source, sourceOffset, length);
      case TargetKind.hole:
        break;
      default:
        return route.status;
    }
    this.count(route, length, DmaDirection.write);
    return DmaStatus.ok;
  }

  /** Brings `length` bytes from the end of a route that covers them. */
  private fetch(
    route: Route,
    address: number,
    target: Uint8Array,
    targetOffset: number,
    length: number,
  ): number {
    const offset = address - route.delta;
    switch (route.kind) {
      case TargetKind.memory:
        (route.memory as SparseMemory).read(offset, target, targetOffset, length);
        break;
      case TargetKind.host:
        this.host.copier.copy(target, targetOffset, route.bytes, offset, length);
        break;
      case TargetKind.registers: {
        const registers = route.registers as RegisterHandler;
        const status = readRegisters(registers, offset, target, targetOffset, length);
        if (status !== DmaStatus.ok) return status;
        break;
      }
      case TargetKind.hole:
        target.fill(0, targetOffset, targetOffset + length);
        break;
      default:
        return route.status;
    }
    this.count(route, length, DmaDirection.read);
    return DmaStatus.ok;
  }

  private lend(route: Route, address: number, length: number, span: Span): number {
    const offset = address - route.delta;
    switch (route.kind) {
      case TargetKind.memory:
        (route.memory as SparseMemory).borrow(offset, length, span);
        return DmaStatus.ok;
      case TargetKind.host:
        span.set(route.bytes, offset, length);
        return DmaStatus.ok;
      case TargetKind.registers: {
        const run = Math.min(length, this.scratch.length);
        span.set(this.scratch, 0, run);
        return readRegisters(route.registers as RegisterHandler, offset, this.scratch, 0, run);
      }
      case TargetKind.hole:
        span.set(ZEROS, 0, Math.min(length, ZEROS.length));
        return DmaStatus.ok;
      default:
        return route.status;
    }
  }

  /** A write into the interrupt window: an interrupt message when it is one double word. */
  private sendMessage(
    route: Route,
    address: number,
    source: Uint8Array,
    at: number,
    length: number,
  ): number {
    if (length !== 4 || (address & 3) !== 0) return DmaStatus.unsupportedRequest;
    const data =
      source[at] | (source[at + 1] << 8) | (source[at + 2] << 16) | (source[at + 3] << 24);
    this.count(route, length, DmaDirection.write);
    this.host.messageArrived(address, data >>> 0);
    return DmaStatus.ok;
  }

  /** Every part of a read must have a route before anything moves. */
  private checkRead(address: number, length: number): number {
    const faults = this.host.faults;
    if (faults !== null) {
      const status = faults.statusFor(this.bdf, DmaDirection.read);
      if (status !== DmaStatus.ok) return status;
    }
    let done = 0;
    while (done < length) {
      const at = address + done;
      const route = this.routeFor(at, DmaDirection.read);
      let run = route.limit - at;
      if (run > length - done) run = length - done;
      if (route.kind === TargetKind.none) return route.status;
      if (route.kind !== TargetKind.translate) {
        done += run;
        continue;
      }
      const end = done + run;
      while (done < end) {
        const status = this.translate(address + done, end - done, DmaDirection.read);
        if (status !== DmaStatus.ok) return status;
        const translated = this.runRoute as Route;
        if (translated.kind === TargetKind.none) return translated.status;
        done += this.runLength;
      }
    }
    return DmaStatus.ok;
  }

  private writeTranslated(
    address: number,
    source: Uint8Array,
    sourceOffset: number,
    length: number,
  ): number {
    let done = 0;
    while (done < length) {
      const status = this.translate(address + done, length - done, DmaDirection.write);
      if (status !== DmaStatus.ok) return status;
      const run = this.runLength;
      const route = this.runRoute as Route;
      const result = this.deliver(route, this.runPhys, source, sourceOffset + done, run);
      if (result !== DmaStatus.ok) return result;
      done += run;
    }
    return DmaStatus.ok;
  }

  private readTranslated(
    address: number,
    target: Uint8Array,
    targetOffset: number,
    length: number,
  ): number {
    let done = 0;
    while (done < length) {
      const status = this.translate(address + done, length - done, DmaDirection.read);
      if (status !== DmaStatus.ok) return status;
      const run = this.runLength;
      const route = this.runRoute as Route;
      const result = this.fetch(route, this.runPhys, target, targetOffset + done, run);
      if (result !== DmaStatus.ok) return result;
      done += run;
    }
    return DmaStatus.ok;
  }

  /**
   * Translates from `address` on, as far as pages are physically contiguous and one route goes.
   * Sets `runRoute`, `runPhys` and `runLength`.
   */
  private translate(address: number, length: number, direction: DmaDirection): number {
    const iommu = this.host.iommu as Iommu;
    const domain: IoDomain = iommu.domainOf(this.node);
    const offset = address & 0xfff;
    const page = (address - offset) / 4096;
    const first = domain.translate(page, direction);
    if (first < 0) return iommu.fault(this.node, domain, address, direction, first);
    const phys = first + offset;
    const isRead = direction === DmaDirection.read;
    const cache = isRead ? this.translatedReads : this.translatedWrites;
    let route = cache.find(phys, this.host.epoch);
    if (route === null) {
      route = this.host.decideTranslated(this.node, address, phys, direction);
      cache.keep(route);
    }
    let run = 4096 - offset;
    let nextPage = page + 1;
    // The rest of the transfer is one run as long as each page follows the one before it.
    while (run < length && phys + run < route.limit) {
      const next = domain.translate(nextPage, direction);
      if (next !== phys + run) break;
      run += 4096;
      nextPage++;
    }
    const room = route.limit - phys;
    if (run > room && room > 0) run = room;
    this.runRoute = route;
    this.runPhys = phys;
    this.runLength = Math.min(run, length);
    return DmaStatus.ok;
  }

  private count(route: Route, length: number, direction: DmaDirection): void {
    const counts = route.counts;
    counts[RouteCount.bytes] = counts[RouteCount.bytes] + length;
    counts[RouteCount.transfers] = counts[RouteCount.transfers] + 1;
    counts[RouteCount.tlps] = counts[RouteCount.tlps] + Math.ceil(length / route.tlpBytes);
    if (direction === DmaDirection.read) {
      counts[RouteCount.requests] =
        counts[RouteCount.requests] + Math.ceil(length / route.requestBytes);
    }
    const timing = this.host.timing;
    if (timing !== null) timing.add(this.index, route, length);
  }

  private failed(address: number, length: number, status: number): number {
    const tracer = this.host.tracer;
    if (tracer.on) tracer.emit(Event.dmaFailed, this.bdf, address, length, status);
    return status;
  }
}
