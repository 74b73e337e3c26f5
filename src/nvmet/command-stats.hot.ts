/**
 * What is counted of the commands of one namespace, or of one subsystem's other commands: how many
 * by opcode and status, payload, a histogram of the time from capsule to response. Allocates only
 * when an opcode fails with a status for the first time.
 */

/** Upper bounds of the histogram's buckets in nanoseconds; one more bucket is above the last. */
export const LATENCY_BOUNDS_NS: readonly number[] = [
  10e3, 25e3, 50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 1e9, 10e9,
];
/** Kinds of commands with a histogram each. */
export const LatencyKind = { read: 0, write: 1, other: 2 } as const;
export const LATENCY_KIND_NAMES: readonly string[] = ["read", "write", "other"];

const BUCKETS = LATENCY_BOUNDS_NS.length + 1;
const OPCODES = 256;
const OPCODE_WRITE = 1;
const OPCODE_READ = 2;
/** SCT and SC of a status, without its flags. */
const STATUS_MASK = 0x7ff;

class Count {
  n = 0;
}

/** The time of the round of polling that is under way, for all queues of a target. */
export class RoundClock {
  nowNs = 0;
}

export class CommandStats {
  /** Commands that succeeded, by opcode. */
  readonly succeeded = new Float64Array(OPCODES);
  /** Payload of those, in bytes: read by hosts, written by them. */
  readBytes = 0;
  writtenBytes = 0;
  /** By {@link LatencyKind}. */
  readonly latency: readonly Float64Array[] = LATENCY_KIND_NAMES.map(
    () => new Float64Array(BUCKETS),
  );
  readonly latencySumNs = new Float64Array(LATENCY_KIND_NAMES.length);
  /** Keyed by status * 256 + opcode. */
  private readonly failed = new Map<number, Count>();

  count(opcode: number, status: number): void {
    if (status === 0) {
      this.succeeded[opcode]++;
      return;
    }
    const key = (status & STATUS_MASK) * OPCODES + opcode;
    let count = this.failed.get(key);
    if (count === undefined) {
      count = new Count();
      this.failed.set(key, count);
    }
    count.n++;
  }

  time(opcode: number, ns: number): void {
    let kind: number = LatencyKind.other;
    if (opcode === OPCODE_READ) kind = LatencyKind.read;
    else if (opcode === OPCODE_WRITE) kind = LatencyKind.write;
    let bucket = 0;
    while (bucket < BUCKETS - 1 && ns > LATENCY_BOUNDS_NS[bucket]) bucket++;
    this.latency[kind][bucket]++;
    this.latencySumNs[kind] += ns;
  }

  /** Opcode, status and how often, of all that ever ended so. */
  *outcomes(): Generator<readonly [opcode: number, status: number, count: number]> {
    for (let opcode = 0; opcode < OPCODES; opcode++) {
      if (this.succeeded[opcode] > 0) yield [opcode, 0, this.succeeded[opcode]];
    }
    for (const [key, { n }] of this.failed) {
      yield [key % OPCODES, Math.floor(key / OPCODES), n];
    }
  }
}
