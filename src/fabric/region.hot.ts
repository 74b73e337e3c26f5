/**
 * A BAR as the CPU sees it: loads and stores at physical addresses, routed through the host
 * bridge's aperture and the bridge windows like any other request, but decided once per epoch.
 *
 * Invariant: the mapping is of addresses, not of a device. If the BAR moves, the old mapping
 * reaches whatever answers there now; reads that nobody answers give all ones, writes vanish.
 *
 * Left out: CPU accesses are not counted as link traffic and take no simulated time.
 */

import type { MappedRegion } from "../backing/interface.ts";
import { assert, type PhysAddr, Span, type SparseMemory, type U64 } from "../core/index.ts";
import type { RegisterHandler } from "./device.ts";

/** What answers a run of CPU addresses; neither registers nor memory: a hole, or nobody. */
export class CpuRoute {
  readonly base: number;
  readonly limit: number;
  readonly epoch: number;
  /** False: nobody answers, reads give all ones. */
  readonly isAnswered: boolean;
  readonly registers: RegisterHandler | null;
  readonly memory: SparseMemory | null;
  /** CPU address minus this is the offset in `registers` or `memory`. */
  readonly delta: number;

  constructor(
    base: number,
    limit: number,
    epoch: number,
    isAnswered: boolean,
    registers: RegisterHandler | null,
    memory: SparseMemory | null,
    delta: number,
  ) {
    this.base = base;
    this.limit = limit;
    this.epoch = epoch;
    this.isAnswered = isAnswered;
    this.registers = registers;
    this.memory = memory;
    this.delta = delta;
  }
}

export interface RegionHost {
  readonly epoch: number;
  decideCpu(phys: number): CpuRoute;
}

const SLOTS = 8;

export class FabricRegion implements MappedRegion {
  readonly sizeBytes: number;
  readonly phys: PhysAddr;
  private readonly host: RegionHost;
  private readonly slots: (CpuRoute | null)[] = new Array(SLOTS).fill(null);
  private last: CpuRoute | null = null;
  private next = 0;
  private readonly span = new Span();
  private readonly word = new Uint8Array(4);

  constructor(phys: PhysAddr, sizeBytes: number, host: RegionHost) {
    this.phys = phys;
    this.sizeBytes = sizeBytes;
    this.host = host;
  }

  read32(offset: number): number {
    assert(offset >= 0 && offset + 4 <= this.sizeBytes, "an access stays inside its BAR");
    assert((offset & 3) === 0, "registers are read as aligned double words");
    const address = this.phys + offset;
    const route = this.routeAt(address);
    if (route.registers !== null) return route.registers.read32(address - route.delta);
    if (route.memory === null) return route.isAnswered ? 0 : 0xffffffff;
    route.memory.borrow(address - route.delta, 4, this.span);
    const bytes = this.span.bytes;
    const at = this.span.offset;
    return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
  }

  write32(offset: number, value: number): void {
    assert(offset >= 0 && offset + 4 <= this.sizeBytes, "an access stays inside its BAR");
    assert((offset & 3) === 0, "registers are written as aligned double words");
    const address = this.phys + offset;
    const route = this.routeAt(address);
    if (route.registers !== null) {
      route.registers.write32(address - route.delta, value >>> 0);
    } else if (route.memory !== null) {
      this.word[0] = value;
      this.word[1] = value >>> 8;
      this.word[2] = value >>> 16;
      this.word[3] = value >>> 24;
      route.memory.write(address - route.delta, this.word, 0, 4);
    }
  }

  read64(offset: number, out: U64): void {
    out.lo = this.read32(offset);
    out.hi = this.read32(offset + 4);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.write32(offset, lo);
    this.write32(offset + 4, hi);
  }

  readBytes(offset: number, target: Uint8Array): void {
    this.copyOut(offset, target, 0, target.length);
  }

  writeBytes(offset: number, source: Uint8Array): void {
    this.copyIn(offset, source, 0, source.length);
  }

  copyOut(offset: number, target: Uint8Array, targetOffset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a copy stays inside its BAR");
    let done = 0;
    while (done < length) {
      const address = this.phys + offset + done;
      const route = this.routeAt(address);
      const room = route.limit - address;
      const run = Math.min(room, length - done);
      const at = targetOffset + done;
      if (route.memory !== null) route.memory.read(address - route.delta, target, at, run);
      else if (route.registers !== null) this.readWords(route, address, target, at, run);
      else target.fill(route.isAnswered ? 0 : 0xff, at, at + run);
      done += run;
    }
  }

  copyIn(offset: number, source: Uint8Array, sourceOffset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a copy stays inside its BAR");
    let done = 0;
    while (done < length) {
      const address = this.phys + offset + done;
      const route = this.routeAt(address);
      const room = route.limit - address;
      const run = Math.min(room, length - done);
      const at = sourceOffset + done;
      if (route.memory !== null) route.memory.write(address - route.delta, source, at, run);
      else if (route.registers !== null) this.writeWords(route, address, source, at, run);
      done += run;
    }
  }

  private readWords(
    route: CpuRoute,
    address: number,
    target: Uint8Array,
    at: number,
    run: number,
  ): void {
    assert(((address | run) & 3) === 0, "registers are read as aligned double words");
    const registers = route.registers as RegisterHandler;
    for (let i = 0; i < run; i += 4) {
      const word = registers.read32(address + i - route.delta);
      for (let k = 0; k < 4; k++) target[at + i + k] = word >>> (8 * k);
    }
  }

  private writeWords(
    route: CpuRoute,
    address: number,
    source: Uint8Array,
    at: number,
    run: number,
  ): void {
    assert(((address | run) & 3) === 0, "registers are written as aligned double words");
    const registers = route.registers as RegisterHandler;
    for (let i = 0; i < run; i += 4) {
      let word = 0;
      for (let k = 0; k < 4; k++) word |= source[at + i + k] << (8 * k);
      registers.write32(address + i - route.delta, word >>> 0);
    }
  }

  private routeAt(address: number): CpuRoute {
    const last = this.last;
    const epoch = this.host.epoch;
    if (last !== null && address >= last.base && address < last.limit && last.epoch === epoch) {
      return last;
    }
    for (let i = 0; i < SLOTS; i++) {
      const route = this.slots[i] as CpuRoute | null;
      if (route === null) break;
      if (address >= route.base && address < route.limit && route.epoch === epoch) {
        this.last = route;
        return route;
      }
    }
    const route = this.host.decideCpu(address);
    this.slots[this.next] = route;
    this.next = (this.next + 1) % SLOTS;
    this.last = route;
    return route;
  }
}
