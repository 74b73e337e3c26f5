/**
 * A device's port without a fabric: flat memory at one address range, for tests of device models.
 * It says what a device touched, can refuse ranges, and can hold transfers and timers back as timed
 * mode does.
 */

import { assert, type Bdf, Copier, DmaStatus, makeBdf, type Span } from "../src/core/index.ts";
import type { DeviceModel, DevicePort, SettleClient, TimerClient } from "../src/fabric/index.ts";

interface Held {
  readonly client: SettleClient;
  readonly token: number;
}

interface Timer {
  readonly at: number;
  readonly client: TimerClient;
  readonly token: number;
}

/** One access of the device, when `journal` is kept. */
export interface Access {
  readonly write: boolean;
  readonly address: number;
  readonly length: number;
}

export interface FakePortOptions {
  readonly base?: number;
  readonly sizeBytes?: number;
  /** `settle` waits for `land()`. */
  readonly timed?: boolean;
}

export class FakePort implements DevicePort {
  readonly bdf: Bdf = makeBdf(0, 1, 0, 0);
  readonly copier = new Copier();
  readonly base: number;
  readonly memory: Uint8Array;
  readonly view: DataView;
  /** Null: accesses are not written down. */
  journal: Access[] | null = null;
  /** How often each vector was raised. */
  readonly interrupts = new Map<number, number>();
  woken = false;
  /** How often the model said that its regions changed. */
  regionChanges = 0;
  reads = 0;
  writes = 0;
  private readonly timed: boolean;
  private readonly held: Held[] = [];
  private timers: Timer[] = [];
  private refused: { start: number; end: number; status: number } | null = null;
  private now = 0;

  constructor(options: FakePortOptions = {}) {
    this.base = options.base ?? 0x1_0000_0000;
    this.memory = new Uint8Array(options.sizeBytes ?? 8 * 1024 * 1024);
    this.view = new DataView(this.memory.buffer);
    this.timed = options.timed ?? false;
  }

  /** Accesses that touch this range fail with `status` (a DmaStatus). */
  refuse(start: number, length: number, status: number = DmaStatus.unsupportedRequest): void {
    this.refused = { start, end: start + length, status };
  }

  accept(): void {
    this.refused = null;
  }

  write(address: number, source: Uint8Array, sourceOffset: number, length: number): number {
    this.writes++;
    const status = this.check(true, address, length);
    if (status !== DmaStatus.ok) return status;
    this.copier.copy(this.memory, address - this.base, source, sourceOffset, length);
    return status;
  }

  read(address: number, target: Uint8Array, targetOffset: number, length: number): number {
    this.reads++;
    const status = this.check(false, address, length);
    if (status !== DmaStatus.ok) return status;
    this.copier.copy(target, targetOffset, this.memory, address - this.base, length);
    return status;
  }

  borrow(address: number, length: number, span: Span): number {
    this.reads++;
    const status = this.check(false, address, length);
    if (status === DmaStatus.ok) span.set(this.memory, address - this.base, length);
    return status;
  }

  interrupt(vector: number): void {
    this.interrupts.set(vector, (this.interrupts.get(vector) ?? 0) + 1);
  }

  wake(): void {
    this.woken = true;
  }

  regionsChanged(): void {
    this.regionChanges++;
  }

  settle(client: SettleClient, token: number): void {
    if (this.timed) this.held.push({ client, token });
    else client.settled(token);
  }

  nowNs(): number {
    return this.now;
  }

  after(delayNs: number, client: TimerClient, token: number): void {
    this.timers.push({ at: this.now + delayNs, client, token });
  }

  /** Timed mode: the transfers of up to `count` settles land. Returns how many did. */
  land(count = Number.POSITIVE_INFINITY): number {
    let landed = 0;
    while (landed < count && this.held.length > 0) {
      const { client, token } = this.held.shift() as Held;
      client.settled(token);
      landed++;
    }
    return landed;
  }

  /** Moves time on and calls the timers that are due. */
  advance(ns: number): void {
    this.now += ns;
    const due = this.timers.filter((timer) => timer.at <= this.now);
    this.timers = this.timers.filter((timer) => timer.at > this.now);
    for (const { client, token } of due) client.timer(token);
  }

  /** Steps the model until it no longer asks for it. */
  run(model: DeviceModel): number {
    let steps = 0;
    while (this.woken) {
      this.woken = false;
      model.step();
      steps++;
      assert(steps < 1_000_000, "a model stops asking for steps");
    }
    return steps;
  }

  private check(write: boolean, address: number, length: number): number {
    this.journal?.push({ write, address, length });
    const refused = this.refused;
    if (refused !== null && address < refused.end && address + length > refused.start) {
      return refused.status;
    }
    const inside = address >= this.base && address + length <= this.base + this.memory.length;
    return inside ? DmaStatus.ok : DmaStatus.unsupportedRequest;
  }
}
