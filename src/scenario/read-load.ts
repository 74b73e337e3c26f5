/**
 * Random reads at a constant depth, and what they came to: the load of `peerlane connect --bench`.
 * Reads only, so it changes nothing.
 */

import { NS_PER_S } from "../core/index.ts";
import { type IoOwner, type MultipathHost, PathIo } from "../nvmet/index.ts";
import type { Clock } from "../platform/index.ts";
import { NvmOpcode } from "../spec/nvme/index.ts";

/** What a run of I/O came to. */
export interface BenchResult {
  readonly ios: number;
  readonly errors: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly iosPerSecond: number;
  readonly bytesPerSecond: number;
  /** Microseconds. */
  readonly latencyUs: {
    readonly p50: number;
    readonly p99: number;
    readonly max: number;
  };
}

/** Latencies that are kept of one run; beyond, every second one is forgotten. */
const SAMPLES_MAX = 1 << 20;

/** Keeps some reads in flight, each for another place as it ends. */
export class ReadLoad implements IoOwner {
  private readonly host: MultipathHost;
  private readonly clock: Clock;
  private readonly places: number;
  private readonly perIo: number;
  private readonly latencies: number[] = [];
  private draw: () => number = () => 0;
  private stride = 1;
  private ios = 0;
  private errors = 0;
  private inFlight = 0;
  private startNs = 0;
  private endNs = 0;
  private started: Float64Array = new Float64Array(0);
  private finished: () => void = () => undefined;

  constructor(host: MultipathHost, clock: Clock, shape: { places: number; perIo: number }) {
    this.host = host;
    this.clock = clock;
    this.places = shape.places;
    this.perIo = shape.perIo;
  }

  run(
    depth: number,
    seconds: number,
    draw: () => number,
    fill: (io: PathIo, slot: number) => void,
  ): Promise<void> {
    this.draw = draw;
    this.started = new Float64Array(depth);
    this.startNs = this.clock.nowNs();
    this.endNs = this.startNs + seconds * NS_PER_S;
    return new Promise((resolve) => {
      this.finished = resolve;
      for (let slot = 0; slot < depth; slot++) {
        const io = new PathIo(this);
        io.opcode = NvmOpcode.read;
        io.tag = slot;
        fill(io, slot);
        this.inFlight++;
        this.submit(io, this.startNs);
      }
    });
  }

  private submit(io: PathIo, nowNs: number): void {
    io.setRange((this.draw() % this.places) * this.perIo, this.perIo, false);
    this.started[io.tag] = nowNs;
    this.host.submit(io);
  }

  ioDone(io: PathIo): void {
    const now = this.clock.nowNs();
    this.ios++;
    if (io.status !== 0) this.errors++;
    else if (this.ios % this.stride === 0)
      this.keep((now - (this.started[io.tag] as number)) / 1e3);
    if (now < this.endNs && !this.host.set.isOver) {
      this.submit(io, now);
      return;
    }
    this.inFlight--;
    if (this.inFlight > 0) return;
    this.endNs = now;
    this.finished();
  }

  private keep(us: number): void {
    if (this.latencies.length === SAMPLES_MAX) {
      for (let i = 0; i < SAMPLES_MAX / 2; i++) this.latencies[i] = this.latencies[2 * i] as number;
      this.latencies.length = SAMPLES_MAX / 2;
      this.stride *= 2;
    }
    this.latencies.push(us);
  }

  result(blockSize: number): BenchResult {
    const sorted = Float64Array.from(this.latencies).sort();
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
    const seconds = (this.endNs - this.startNs) / NS_PER_S;
    const good = this.ios - this.errors;
    return {
      ios: this.ios,
      errors: this.errors,
      bytes: good * blockSize,
      seconds,
      iosPerSecond: good / seconds,
      bytesPerSecond: (good * blockSize) / seconds,
      latencyUs: { p50: at(0.5), p99: at(0.99), max: at(1) },
    };
  }
}
