/**
 * Reservations: the tables of the specification, the sentences of its section 8.19 one by one, and
 * random sequences of several hosts against a model that keeps holders as a set and knows nothing
 * of how the target does it.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { viewOf } from "../core/index.ts";
import { NvmeStatus, NvmOpcode, STATUS_DNR } from "../spec/nvme/index.ts";
import { GATE_CLASS } from "./gate.hot.ts";
import {
  type AcquireCommand,
  conflictsOf,
  executeReservation,
  isHolder,
  KEY_NONE,
  NO_RESERVATION,
  type RegisterCommand,
  type ReleaseCommand,
  type ReservationCommand,
  type ReservationOutcome,
  type ReservationState,
} from "./reservation-state.ts";
import { parseReservations, type ReservationStore, Reservations } from "./reservations.ts";

const OK = NvmeStatus.success;
const CONFLICT = NvmeStatus.reservationConflict | STATUS_DNR;
const INVALID = NvmeStatus.invalidField | STATUS_DNR;
const host = (n: number) => String(n).padStart(32, "0");
const key = (n: number) => n.toString(16).padStart(16, "0");
const [A, B, C] = [host(1), host(2), host(3)];

const register = (newKey: number, more: Partial<RegisterCommand> = {}): RegisterCommand => ({
  kind: "register",
  action: 0,
  ignoreKey: false,
  persist: 0,
  currentKey: KEY_NONE,
  newKey: key(newKey),
  ...more,
});
const unregister = (current: number, more: Partial<RegisterCommand> = {}): RegisterCommand =>
  register(0, { action: 1, currentKey: key(current), ...more });
const acquire = (type: number, current: number, more: Partial<AcquireCommand> = {}) =>
  ({
    kind: "acquire",
    action: 0,
    ignoreKey: false,
    type,
    currentKey: key(current),
    preemptKey: KEY_NONE,
    ...more,
  }) satisfies AcquireCommand;
const preempt = (type: number, current: number, victim: number) =>
  acquire(type, current, { action: 1, preemptKey: key(victim) });
const release = (type: number, current: number, more: Partial<ReleaseCommand> = {}) =>
  ({
    kind: "release",
    action: 0,
    ignoreKey: false,
    type,
    currentKey: key(current),
    ...more,
  }) satisfies ReleaseCommand;

type Steps = readonly (readonly [string, ReservationCommand])[];

/** Runs [host, command] in order; all but the last must succeed. */
function run(...steps: Steps): ReservationOutcome {
  let outcome: ReservationOutcome = {
    status: OK,
    state: NO_RESERVATION,
    notices: [],
    aborted: [],
  };
  for (const [i, [by, command]] of steps.entries()) {
    outcome = executeReservation(outcome.state, by, command);
    if (i < steps.length - 1) expect(outcome.status).toBe(OK);
  }
  return outcome;
}

/** Hosts 1, 2 and 3 with keys 1, 2 and 3; the first holds a reservation of `type`. */
const held = (type: number): Steps => [
  [A, register(1)],
  [B, register(2)],
  [C, register(3)],
  [A, acquire(type, 1)],
];

describe("commands in the presence of a reservation (NVM Command Set 1.0, figure 136)", () => {
  // Registrant and non-registrant may: r and w per type; the holder may do everything.
  const TABLE = [
    { type: 1, registrant: "r", other: "r" },
    { type: 2, registrant: "", other: "" },
    { type: 3, registrant: "rw", other: "r" },
    { type: 4, registrant: "rw", other: "" },
    { type: 5, registrant: "rw", other: "r" },
    { type: 6, registrant: "rw", other: "" },
  ];
  const READS = [NvmOpcode.read, NvmOpcode.compare, NvmOpcode.verify];
  const WRITES = [
    NvmOpcode.write,
    NvmOpcode.writeZeroes,
    NvmOpcode.writeUncorrectable,
    NvmOpcode.datasetManagement,
    NvmOpcode.flush,
    NvmOpcode.copy,
  ];
  const ALWAYS = [NvmOpcode.reservationRegister, NvmOpcode.reservationReport];

  it.each(TABLE)("type $type: registrants may $registrant, others $other", (row) => {
    const { state } = run([A, register(1)], [B, register(2)], [A, acquire(row.type, 1)]);
    const check = (who: string, may: string) => {
      const closed = conflictsOf(state, who);
      const isAllowed = (opcode: number) => (closed & (GATE_CLASS[opcode] as number)) === 0;
      expect(READS.map(isAllowed)).toEqual(READS.map(() => may.includes("r")));
      expect(WRITES.map(isAllowed)).toEqual(WRITES.map(() => may.includes("w")));
      expect(ALWAYS.every(isAllowed)).toBe(true);
    };
    check(A, "rw");
    check(B, row.registrant);
    check(C, row.other);
  });

  it("keeps nobody out without a reservation", () => {
    expect(conflictsOf(run([A, register(1)]).state, C)).toBe(0);
  });
});

describe("sentences of section 8.19", () => {
  it.each<[string, readonly (readonly [string, ReservationCommand])[], number]>([
    [
      "the same key again",
      [
        [A, register(1)],
        [A, register(1)],
      ],
      OK,
    ],
    [
      "another key",
      [
        [A, register(1)],
        [A, register(2)],
      ],
      CONFLICT,
    ],
    [
      "hosts may share a key",
      [
        [A, register(1)],
        [B, register(1)],
      ],
      OK,
    ],
    [
      "replace with the key",
      [
        [A, register(1)],
        [A, register(2, { action: 2, currentKey: key(1) })],
      ],
      OK,
    ],
    [
      "replace with a wrong key",
      [
        [A, register(1)],
        [A, register(2, { action: 2, currentKey: key(9) })],
      ],
      CONFLICT,
    ],
    ["replace by a stranger", [[A, register(2, { action: 2 })]], CONFLICT],
    ["replace, ignoring the key", [[A, register(2, { action: 2, ignoreKey: true })]], OK],
    [
      "unregister with the key",
      [
        [A, register(1)],
        [A, unregister(1)],
      ],
      OK,
    ],
    [
      "unregister with a wrong key",
      [
        [A, register(1)],
        [A, unregister(2)],
      ],
      CONFLICT,
    ],
    ["unregister by a stranger", [[A, unregister(0)]], CONFLICT],
    [
      "unregister, ignoring the key",
      [
        [A, register(1)],
        [A, unregister(7, { ignoreKey: true })],
      ],
      OK,
    ],
    ["an action that does not exist", [[A, register(1, { action: 3 })]], INVALID],
    ["CPTPL 01b", [[A, register(1, { persist: 1 })]], INVALID],
    ["acquire by a stranger", [[A, acquire(1, 0)]], CONFLICT],
    [
      "acquire with a wrong key",
      [
        [A, register(1)],
        [A, acquire(1, 2)],
      ],
      CONFLICT,
    ],
    ["acquire what another holds", [...held(1), [B, acquire(1, 2)]], CONFLICT],
    ["acquire again, same type", [...held(1), [A, acquire(1, 1)]], OK],
    ["acquire again, other type", [...held(1), [A, acquire(2, 1)]], CONFLICT],
    ["acquire, all registrants hold it", [...held(5), [B, acquire(5, 2)]], OK],
    [
      "acquire, ignoring the key",
      [
        [A, register(1)],
        [A, acquire(1, 1, { ignoreKey: true })],
      ],
      INVALID,
    ],
    [
      "acquire type 0",
      [
        [A, register(1)],
        [A, acquire(0, 1)],
      ],
      INVALID,
    ],
    [
      "acquire type 7",
      [
        [A, register(1)],
        [A, acquire(7, 1)],
      ],
      INVALID,
    ],
    [
      "acquire, action 3",
      [
        [A, register(1)],
        [A, acquire(1, 1, { action: 3 })],
      ],
      INVALID,
    ],
    [
      "release what is not held",
      [
        [A, register(1)],
        [A, release(1, 1)],
      ],
      OK,
    ],
    ["release by a registrant that does not hold it", [...held(1), [B, release(1, 2)]], OK],
    ["release with a wrong type", [...held(1), [A, release(2, 1)]], INVALID],
    ["release with a wrong key", [...held(1), [A, release(1, 2)]], CONFLICT],
    ["release by a stranger", [[A, release(1, 0)]], CONFLICT],
    ["clear by a registrant", [...held(1), [B, release(0, 2, { action: 1 })]], OK],
    ["clear by a stranger", [...held(1), [host(9), release(0, 0, { action: 1 })]], CONFLICT],
    ["preempt with key 0, one holder", [...held(1), [B, preempt(1, 2, 0)]], INVALID],
    ["preempt with a key of nobody", [...held(5), [B, preempt(1, 2, 9)]], CONFLICT],
    ["preempt by a stranger", [...held(1), [host(9), preempt(1, 0, 1)]], CONFLICT],
  ])("%s", (_what, steps, status) => {
    const before = run(...steps.slice(0, -1)).state;
    const outcome = run(...steps);
    expect(outcome.status).toBe(status);
    if (status !== OK) expect(outcome.state).toEqual(before);
  });

  it("a preempted holder loses registration and reservation in one step", () => {
    const { state, notices, aborted } = run(...held(1), [B, preempt(3, 2, 1)]);
    expect([...state.registrants.keys()]).toEqual([B, C]);
    expect([state.type, state.holder]).toEqual([3, B]);
    // Registration preempted; reservation released, since the type changed.
    expect(notices).toEqual([
      { host: A, notice: 1 },
      { host: C, notice: 2 },
    ]);
    expect(aborted).toEqual([]);
    const abort = acquire(1, 2, { action: 2, preemptKey: key(1) });
    expect(run(...held(1), [B, abort]).aborted).toEqual([A]);
  });

  it("a holder may preempt itself to change the type, and stays registered", () => {
    const { state, notices } = run(...held(1), [A, preempt(4, 1, 1)]);
    expect([state.type, state.holder, state.registrants.size]).toEqual([4, A, 3]);
    expect(notices.map(({ notice }) => notice)).toEqual([2, 2]);
  });

  it("preempting a registrant leaves the reservation alone", () => {
    const { state } = run(...held(1), [B, preempt(2, 2, 3)]);
    expect([state.type, state.holder, state.registrants.has(C)]).toEqual([1, A, false]);
  });

  it("of all registrants: key 0 takes it from all, a key from one, the last leaves it free", () => {
    const all = run(...held(6), [B, preempt(1, 2, 0)]).state;
    expect([all.type, all.holder, [...all.registrants.keys()]]).toEqual([1, B, [B]]);
    const one = run(...held(6), [B, preempt(1, 2, 3)]).state;
    expect([one.type, [...one.registrants.keys()]]).toEqual([6, [A, B]]);
    const last = run([A, register(1)], [A, acquire(5, 1)], [A, unregister(1)]).state;
    expect(last.type).toBe(0);
  });

  it.each([
    [1, []],
    [2, []],
    [3, [2, 2]],
    [4, [2, 2]],
    [5, [2, 2]],
    [6, [2, 2]],
  ])("released, type %i: the others are told %j", (type, told) => {
    expect(run(...held(type), [A, release(type, 1)]).notices.map((n) => n.notice)).toEqual(told);
    const left = run(...held(type), [A, unregister(1)]).notices.map((n) => n.notice);
    expect(left).toEqual(type === 3 || type === 4 ? [2, 2] : []);
  });

  it("clear tells those that lost their registration", () => {
    const { state, notices } = run(...held(1), [B, release(0, 2, { action: 1 })]);
    expect([state.type, state.registrants.size]).toEqual([0, 0]);
    expect(notices).toEqual([
      { host: A, notice: 3 },
      { host: C, notice: 3 },
    ]);
  });

  it("GEN counts register, preempt and clear, and nothing else", () => {
    const generation = (...steps: Steps) => run(...steps).state.generation;
    expect(generation(...held(1))).toBe(3);
    expect(generation(...held(1), [A, release(1, 1)])).toBe(3);
    expect(generation(...held(1), [B, preempt(1, 2, 1)])).toBe(4);
    expect(generation(...held(1), [B, release(0, 2, { action: 1 })])).toBe(4);
    const last: ReservationState = { ...NO_RESERVATION, generation: 0xffff_ffff };
    expect(executeReservation(last, A, register(1)).state.generation).toBe(0);
  });
});

/** The model: a list of registrations, and the holders as a set. */
class Model {
  keys = new Map<string, string>();
  holders = new Set<string>();
  type = 0;

  apply(by: string, command: ReservationCommand): boolean {
    const mine = this.keys.get(by);
    if (command.kind === "register") return this.register(by, mine, command);
    if (command.ignoreKey || mine !== command.currentKey) return false;
    if (command.kind === "acquire") {
      return command.action === 0 ? this.acquire(by, command.type) : this.preempt(by, command);
    }
    if (command.action === 1) {
      this.keys.clear();
      this.settle();
      return true;
    }
    if (!this.holders.has(by)) return true;
    if (this.type !== command.type) return false;
    this.holders.clear();
    this.settle();
    return true;
  }

  private register(by: string, mine: string | undefined, command: RegisterCommand): boolean {
    const isRight = command.ignoreKey || mine === command.currentKey;
    if (command.action === 0 && mine !== undefined && mine !== command.newKey) return false;
    if (command.action !== 0 && !isRight) return false;
    if (command.action === 1) this.keys.delete(by);
    else this.keys.set(by, command.newKey);
    this.settle();
    return true;
  }

  private acquire(by: string, type: number): boolean {
    if (this.type !== 0) return this.holders.has(by) && this.type === type;
    this.take(by, type);
    return true;
  }

  private take(by: string, type: number): void {
    this.type = type;
    this.holders = new Set([by]);
    this.settle();
  }

  private preempt(by: string, { preemptKey, type }: AcquireCommand): boolean {
    const isAll = this.type >= 5;
    const [holder] = this.holders;
    const victims = [...this.keys].filter(([, its]) => its === preemptKey).map(([its]) => its);
    const takes = isAll
      ? preemptKey === KEY_NONE
      : holder !== undefined && this.keys.get(holder) === preemptKey;
    if (takes) {
      for (const its of isAll ? [...this.keys.keys()] : victims)
        if (its !== by) this.keys.delete(its);
      this.take(by, type);
      return true;
    }
    if (holder !== undefined && !isAll && preemptKey === KEY_NONE) return false;
    for (const its of victims) this.keys.delete(its);
    this.settle();
    return victims.length > 0;
  }

  /** Who is gone holds nothing; of the last two types everybody does. */
  private settle(): void {
    if (this.type >= 5 && this.holders.size > 0) this.holders = new Set(this.keys.keys());
    for (const its of this.holders) if (!this.keys.has(its)) this.holders.delete(its);
    if (this.holders.size === 0) this.type = 0;
  }
}

const anyKey = fc.integer({ min: 0, max: 3 }).map(key);
const anyCommand: fc.Arbitrary<ReservationCommand> = fc.oneof(
  fc.record({
    kind: fc.constant("register" as const),
    action: fc.integer({ min: 0, max: 2 }),
    ignoreKey: fc.boolean(),
    persist: fc.constantFrom(0, 2, 3),
    currentKey: anyKey,
    newKey: anyKey,
  }),
  fc.record({
    kind: fc.constant("acquire" as const),
    action: fc.integer({ min: 0, max: 2 }),
    ignoreKey: fc.constant(false),
    type: fc.integer({ min: 1, max: 6 }),
    currentKey: anyKey,
    preemptKey: anyKey,
  }),
  fc.record({
    kind: fc.constant("release" as const),
    action: fc.integer({ min: 0, max: 1 }),
    ignoreKey: fc.constant(false),
    type: fc.integer({ min: 1, max: 6 }),
    currentKey: anyKey,
  }),
);

class MemoryStore implements ReservationStore {
  text: string | null = null;
  isBroken = false;
  load(): string | null {
    return this.text;
  }
  save(text: string): void {
    if (this.isBroken) throw new Error("no space left");
    this.text = text;
  }
}

describe("random sequences of several hosts", () => {
  const steps = fc.array(fc.tuple(fc.constantFrom(A, B, C, host(4)), anyCommand), {
    maxLength: 60,
  });

  it("agree with the model, and keep its promises", () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const model = new Model();
        let state = NO_RESERVATION;
        for (const [by, command] of sequence) {
          const isDone = model.apply(by, command);
          const outcome = executeReservation(state, by, command);
          expect(outcome.status === OK).toBe(isDone);
          expect(outcome.notices.some((notice) => notice.host === by)).toBe(false);
          state = outcome.state;
          expect(Object.fromEntries(state.registrants)).toEqual(Object.fromEntries(model.keys));
          expect(state.type).toBe(model.type);
          const holders = [...model.keys.keys()].filter((its) => isHolder(state, its));
          expect(new Set(holders)).toEqual(model.holders);
          for (const its of model.holders) expect(conflictsOf(state, its)).toBe(0);
        }
      }),
      { seed: 20_261_124, numRuns: 200 },
    );
  });

  it("come back after a loss of power as they were when they persist, else not at all", () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const store = new MemoryStore();
        const first = new Reservations(store, "here");
        for (const [by, command] of sequence) first.execute(by, command);
        const { state } = new Reservations(store, "here");
        const kept = first.state.ptpl ? first.state : NO_RESERVATION;
        expect(state).toEqual({ ...kept, generation: 0 });
      }),
      { seed: 7, numRuns: 100 },
    );
  });
});

describe("what is kept", () => {
  it("changes nothing when it cannot be saved, and says so", () => {
    const store = new MemoryStore();
    const reservations = new Reservations(store, "here");
    expect(reservations.execute(A, register(1, { persist: 3 })).status).toBe(OK);
    const before = reservations.state;
    store.isBroken = true;
    const { status } = reservations.execute(B, register(2));
    expect(status).toBe(NvmeStatus.internalError);
    expect(reservations.state).toBe(before);
    expect(reservations.inspect()).toMatchObject({ saveFailures: 1, lastFailure: "no space left" });
  });

  it("is refused where there is nothing to keep it in", () => {
    const reservations = new Reservations(null, "here");
    expect(reservations.execute(A, register(1, { persist: 3 })).status).toBe(INVALID);
    expect(reservations.setPersistence(true)).toBe(INVALID);
    expect(reservations.state.registrants.size).toBe(0);
  });

  it.each([
    ["", /no JSON/],
    ["[]", /format/],
    ["null", /no object/],
    ['{"format":2}', /format/],
    ['{"format":1}', /ptpl/],
    ['{"format":1,"ptpl":true,"type":7}', /type/],
    ['{"format":1,"ptpl":true,"type":0}', /no list/],
    ['{"format":1,"ptpl":true,"type":0,"registrants":[["x","y"]]}', /host identifier/],
    [
      `{"format":1,"ptpl":true,"type":1,"holder":null,"registrants":[["${A}","${key(1)}"]]}`,
      /holder/,
    ],
    [`{"format":1,"ptpl":true,"type":5,"holder":null,"registrants":[]}`, /no registrant/],
  ])("is checked when it is read: %j", (text, message) => {
    expect(() => parseReservations(text, "file x")).toThrow(message);
  });

  it("is reported as the extended structure", () => {
    const reservations = new Reservations(null, "here");
    for (const [by, command] of held(5)) reservations.execute(by, command);
    const report = reservations.report();
    const view = viewOf(report);
    expect([view.getUint32(0, true), view.getUint8(4), view.getUint16(5, true)]).toEqual([3, 5, 3]);
    expect(report.length).toBe(64 + 3 * 64);
    expect([view.getUint16(64, true), view.getUint8(66), view.getUint8(72)]).toEqual([
      0xffff, 1, 1,
    ]);
    expect(report[64 + 31]).toBe(1);
  });
});
