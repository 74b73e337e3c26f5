import { describe, expect, it } from "vitest";
import {
  makeNvme,
  type RawCommand,
  TEST_DATA_OFFSET,
  type TestNvmeOptions,
} from "../../../../testing/nvme-raw-host.ts";
import { Prng } from "../../../core/index.ts";
import * as spec from "../../../spec/nvme/index.ts";

const MIB = 1024 * 1024;
const { NvmOpcode, AdminOpcode } = spec;
const CMB_BASE = 0x20_0000_0000;
/** The window of memory that random commands may name. */
const WINDOW = 512 * 1024;

const NAMESPACES: NonNullable<TestNvmeOptions["namespaces"]> = [
  { sizeBytes: MIB, lbaBytes: 512 },
  { sizeBytes: MIB, lbaBytes: 4096 },
  { sizeBytes: MIB, lbaBytes: 512, metadataBytes: 8, piType: 1 },
  { sizeBytes: MIB, lbaBytes: 4096, metadataBytes: 64, extended: true, piType: 3, piFirst: true },
];

/** What the controller does, and now and then what it does not. */
const IO = [
  NvmOpcode.flush,
  NvmOpcode.write,
  NvmOpcode.read,
  NvmOpcode.compare,
  NvmOpcode.writeZeroes,
  NvmOpcode.datasetManagement,
  NvmOpcode.verify,
  NvmOpcode.copy,
];
/** Without those that take queues or event requests away from the test. */
const ADMIN = Object.values(AdminOpcode).filter(
  (opcode) => opcode !== AdminOpcode.deleteIoSq && opcode !== AdminOpcode.asyncEventRequest,
);

function randomCommand(prng: Prng, base: number, admin: boolean): RawCommand {
  const address = (): number => {
    const kind = prng.below(10);
    const aligned = prng.chance(0.7) ? 4096 : 4;
    if (kind === 0) return prng.below(2 ** 32);
    if (kind < 3) return CMB_BASE + Math.floor(prng.below(MIB) / aligned) * aligned;
    return base + Math.floor(prng.below(WINDOW) / aligned) * aligned;
  };
  const small = (bound: number): number => (prng.chance(0.9) ? prng.below(bound) : prng.u32());
  const opcode = prng.chance(0.97) ? prng.pick(admin ? ADMIN : IO) : prng.below(256);
  const psdt = prng.chance(0.7) ? 0 : prng.below(4);
  const isWrongAdmin = admin && (opcode === AdminOpcode.deleteIoSq || opcode === 0x0c);
  const common = {
    opcode: isWrongAdmin ? AdminOpcode.identify : opcode,
    psdt,
    fuse: prng.chance(0.95) ? 0 : prng.below(4),
    nsid: prng.chance(0.95) ? 1 + prng.below(4) : prng.u32() % 7,
    mptr: address(),
    prp1: address(),
    prp2: address(),
    cdw10: small(admin ? 0x20 : 230),
    cdw11: prng.chance(0.9) ? 0 : prng.u32(),
    cdw12: prng.chance(0.8)
      ? prng.below(26) | (prng.chance(0.5) ? 0 : prng.below(16) << 26)
      : prng.u32(),
    cdw13: 0,
    cdw14: small(230),
    cdw15: prng.u32(),
  };
  if (psdt === 0) return common;
  const sgl = {
    address: address(),
    length: prng.chance(0.5) ? 512 << prng.below(6) : prng.below(8192),
    type: prng.below(6),
    subtype: prng.chance(0.8) ? 0 : prng.below(16),
  };
  return { ...common, sgl };
}

function setUp(seed: number, options: TestNvmeOptions = {}, timed = false) {
  const prng = new Prng(seed);
  const cmb = { bar: 2, offset: 0, sizeBytes: MIB };
  const made = makeNvme({ namespaces: NAMESPACES, cmb, ...options }, { timed });
  const { host, port } = made;
  host.registers.write32(spec.Reg.cmbmscHi, CMB_BASE / 2 ** 32);
  host.registers.write32(spec.Reg.cmbmscLo, 3);
  host.enable();
  // The window holds plausible PRP lists and SGLs: addresses in it, and numbers.
  for (let at = 0; at < WINDOW; at += 8) {
    const inside = host.data(Math.floor(prng.below(WINDOW) / 4096) * 4096);
    const value = prng.chance(0.7) ? inside : prng.below(2 ** 32);
    port.view.setUint32(TEST_DATA_OFFSET + at, value >>> 0, true);
    port.view.setUint32(TEST_DATA_OFFSET + at + 4, Math.floor(value / 2 ** 32), true);
  }
  return { ...made, prng };
}

describe("random commands", () => {
  it("are each completed exactly once, and write nowhere else than commands could name", () => {
    const { host, port, model, prng } = setUp(42);
    const queues = [1, 2, 3].map((qid) => host.createQueue(qid, 64));
    const outside = TEST_DATA_OFFSET + WINDOW + 4 * MIB;
    port.memory.fill(0xa5, outside);
    const codes = new Map<number, number>();
    let total = 0;
    for (let round = 0; round < 700; round++) {
      for (const queue of queues) {
        const expected = new Set<number>();
        const count = 1 + prng.below(20);
        for (let i = 0; i < count; i++) {
          expected.add(host.write(queue, randomCommand(prng, host.data(), false)));
        }
        host.ring(queue);
        host.settle();
        const done = host.poll(queue);
        let strangers = 0;
        for (const { cid, code } of done) {
          if (!expected.delete(cid)) strangers++;
          codes.set(code, (codes.get(code) ?? 0) + 1);
        }
        expect([done.length, strangers]).toEqual([count, 0]);
        total += count;
      }
    }
    expect(model.engine.inFlight).toBe(0);
    expect(host.registers.read32(spec.Reg.csts)).toBe(1);
    expect(total).toBeGreaterThan(20_000);
    // The run is only worth something if it reaches successes and many kinds of failure.
    expect(codes.get(0) ?? 0).toBeGreaterThan(4000);
    expect(codes.size).toBeGreaterThan(12);
    expect(port.memory.subarray(outside).every((byte) => byte === 0xa5)).toBe(true);
  });

  it("on the admin queue do the same", () => {
    const { host, model, prng } = setUp(7);
    for (let round = 0; round < 400; round++) {
      const expected = new Set<number>();
      const count = 1 + prng.below(8);
      for (let i = 0; i < count; i++) {
        const command = randomCommand(prng, host.data(), true);
        // Queues of random commands must not lie over the host's own.
        const moved = { ...command, prp1: Math.max(command.prp1 ?? 0, host.data()) };
        expected.add(host.write(host.admin, moved));
      }
      host.ring(host.admin);
      host.settle();
      const done = host.poll(host.admin);
      expect(done).toHaveLength(count);
      for (const { cid } of done) expect(expected.delete(cid)).toBe(true);
      expect(model.engine.inFlight).toBe(0);
    }
  });

  it("with faults, timers and late transfers are completed once, or held until a reset", () => {
    const faults = {
      seed: 3,
      rules: [
        { opcode: NvmOpcode.read, probability: 0.2, status: spec.NvmeStatus.unrecoveredReadError },
        { probability: 0.1, delayNs: 1000 },
        { opcode: NvmOpcode.write, probability: 0.05, drop: true },
      ],
    };
    const { host, port, model, prng } = setUp(11, { faults, commandsMax: 64 }, true);
    const queue = host.createQueue(1, 256);
    const open = new Set<number>();
    for (let round = 0; round < 300; round++) {
      const room = 255 - open.size;
      for (let i = 0; i < Math.min(room, prng.below(6)); i++) {
        open.add(host.write(queue, randomCommand(prng, host.data(), false)));
      }
      if (open.size > 0 && queue.tail !== model.engine.sqs[1]?.tail) host.ring(queue);
      port.run(model);
      port.land(prng.below(10));
      if (prng.chance(0.3)) port.advance(700);
      port.run(model);
      for (const { cid } of host.poll(queue)) expect(open.delete(cid)).toBe(true);
      if (model.engine.inFlight === 64 && port.land(1) === 0) {
        // All contexts are held by dropped commands: only a reset helps, and it does.
        host.enable(0);
        expect(model.engine.inFlight).toBe(0);
        host.enable();
        open.clear();
        Object.assign(
          queue,
          host.createQueue(1, 256, { sq: queue.sqAddress, cq: queue.cqAddress }),
        );
      }
    }
    host.registers.write32(spec.Reg.cc, 0);
    port.advance(1e9);
    port.land();
    expect(model.engine.inFlight).toBe(0);
    expect(host.poll(queue, false).length).toBeLessThanOrEqual(open.size);
  });

  it("replay: the same seed gives the same completions", () => {
    const run = (): string => {
      const { host, prng } = setUp(99);
      const queue = host.createQueue(1, 64);
      let log = "";
      for (let round = 0; round < 50; round++) {
        for (let i = 0; i < 10; i++) host.write(queue, randomCommand(prng, host.data(), false));
        host.ring(queue);
        host.settle();
        log += host.poll(queue).map(({ status }) => status);
      }
      return log;
    };
    expect(run()).toBe(run());
  });
});

describe("random register accesses", () => {
  it("never break the controller beyond what a reset repairs", () => {
    const { host, model, port, prng } = setUp(5);
    for (let i = 0; i < 20_000; i++) {
      const offset = 4 * prng.below(prng.chance(0.8) ? 0x20 : 0x800);
      if (prng.chance(0.5)) host.registers.write32(offset, prng.u32());
      else host.registers.read32(offset);
      if (port.woken) port.run(model);
    }
    model.reset();
    expect(host.enable()).toBe(1);
    expect(
      host.adminCommand({ opcode: AdminOpcode.identify, prp1: host.data(), cdw10: 1 }).code,
    ).toBe(0);
  });
});
