import { describe, expect, it } from "vitest";
import { makeNvme, type RawNvmeHost, type RawQueue } from "../../../../testing/nvme-raw-host.ts";
import * as spec from "../../../spec/nvme/index.ts";

const { NvmeStatus, NvmOpcode } = spec;

describe("queue pairs", () => {
  function fill(host: RawNvmeHost, queue: RawQueue, count: number): number[] {
    return Array.from({ length: count }, () => host.write(queue, read(host)));
  }

  it("go around their rings, with the right phase, head and identifiers", () => {
    const { host } = makeNvme();
    host.enable();
    const queue = host.createQueue(3, 8);
    for (let round = 0; round < 10; round++) {
      const cids = fill(host, queue, 1 + (round % 7));
      host.ring(queue);
      host.settle();
      const done = host.poll(queue);
      expect(done.map(({ cid }) => cid)).toEqual(cids);
      expect(done.every(({ sqid }) => sqid === 3)).toBe(true);
      expect(done.at(-1)?.sqhd).toBe(queue.tail);
    }
  });

  it("raise one interrupt for what a step completed, none when disabled", () => {
    const { host, port } = makeNvme();
    host.enable();
    const a = host.createQueue(1, 32, { vector: 5 });
    const b = host.createQueue(2, 32, { vector: 6, interrupts: false });
    for (const queue of [a, b]) {
      fill(host, queue, 20);
      host.ring(queue);
    }
    host.settle();
    expect(host.poll(a)).toHaveLength(20);
    expect(host.poll(b)).toHaveLength(20);
    expect(port.interrupts.get(5)).toBe(1);
    expect(port.interrupts.get(6)).toBeUndefined();
  });

  it("stop at a full completion queue and go on when there is room", () => {
    const { host, model } = makeNvme();
    host.enable();
    const small = host.createQueue(1, 4);
    const adminPage = host.port.base + 200 * 4096;
    const create = {
      opcode: spec.AdminOpcode.createIoSq,
      prp1: adminPage,
      cdw10: (31 << 16) | 2,
      cdw11: (1 << 16) | 1,
    };
    expect(host.adminCommand(create).code).toBe(0);
    const wide = Object.assign(Object.create(Object.getPrototypeOf(small)), small, {
      qid: 2,
      entries: 32,
      sqAddress: adminPage,
      tail: 0,
    }) as RawQueue;
    const cids = fill(host, wide, 31);
    host.ring(wide);
    host.settle();
    const seen: number[] = [];
    for (let i = 0; i < 40 && seen.length < cids.length; i++) {
      const done = host.poll(small);
      expect(done.length).toBeLessThanOrEqual(3);
      seen.push(...done.map(({ cid }) => cid));
      host.settle();
    }
    expect(seen).toEqual(cids);
    expect(model.engine.inFlight).toBe(0);
  });

  it("share the controller in turns of the arbitration burst", () => {
    const { host } = makeNvme({ maxEntries: 256 });
    host.enable();
    const set = { opcode: spec.AdminOpcode.setFeatures, cdw10: spec.Feature.arbitration };
    host.adminCommand({ ...set, cdw11: 2 });
    const queues = [1, 2, 3].map((qid) => host.createQueue(qid, 128));
    for (const queue of queues) fill(host, queue, 100);
    for (const queue of queues) host.ring(queue);
    host.model.step();
    const counts = queues.map((queue) => host.poll(queue).length);
    expect(counts.reduce((a, b) => a + b)).toBe(64);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(4);
    host.settle();
    expect(queues.map((queue, i) => host.poll(queue).length + (counts[i] ?? 0))).toEqual([
      100, 100, 100,
    ]);
  });

  it("report doorbells that make no sense, and ignore them", () => {
    const { host, model } = makeNvme({ dstrd: 1 });
    host.enable();
    const queue = host.createQueue(1, 8);
    const bell = (offset: number, value: number) => host.registers.write32(offset, value);
    const bad: [number, number][] = [
      [spec.sqTailDoorbell(1, 1), 8],
      [spec.sqTailDoorbell(1, 1), 0],
      [spec.cqHeadDoorbell(1, 1), 1],
      [spec.cqHeadDoorbell(1, 1), 9],
      [spec.sqTailDoorbell(2, 1), 1],
      [spec.cqHeadDoorbell(60, 1), 1],
      [spec.sqTailDoorbell(1, 1) + 4, 1],
    ];
    bad.forEach(([offset, value], i) => {
      bell(offset, value);
      expect(model.inspect()["errors"]).toBe(i + 1);
    });
    expect(host.submit(queue, read(host)).code).toBe(0);
  });

  it("complete in timed mode when their transfers have landed, not before", () => {
    const { host, port, model } = makeNvme({}, { timed: true });
    host.enable();
    const queue = host.createQueue(1, 16);
    const cids = fill(host, queue, 4);
    host.ring(queue);
    port.run(model);
    expect(host.poll(queue)).toEqual([]);
    expect(port.land(2)).toBe(2);
    expect(host.poll(queue).map(({ cid }) => cid)).toEqual(cids.slice(0, 2));
    port.land();
    expect(host.poll(queue)).toHaveLength(2);
    fill(host, queue, 4);
    host.ring(queue);
    port.run(model);
    host.registers.write32(spec.Reg.cc, 0);
    expect(port.land()).toBe(4);
    expect(model.engine.inFlight).toBe(0);
    expect(host.poll(queue)).toEqual([]);
  });

  it("wait for a context when all are in use", () => {
    const { host, port, model } = makeNvme({ commandsMax: 8 }, { timed: true });
    host.enable();
    const queue = host.createQueue(1, 64);
    fill(host, queue, 40);
    host.ring(queue);
    let done = 0;
    for (let i = 0; i < 100 && done < 40; i++) {
      port.run(model);
      expect(model.engine.inFlight).toBeLessThanOrEqual(8);
      port.land(1);
      done += host.poll(queue).length;
    }
    expect(done).toBe(40);
  });

  it("deleted with commands held end them first", () => {
    const rules = [{ opcode: NvmOpcode.read, drop: true }];
    const { host, model } = makeNvme({ faults: { seed: 1, rules } });
    host.enable();
    const queue = host.createQueue(1, 16);
    fill(host, queue, 3);
    host.ring(queue);
    host.settle();
    expect(model.engine.inFlight).toBe(3);
    expect(host.adminCommand({ opcode: 0, cdw10: 1 }).code).toBe(0);
    const done = host.poll(queue);
    expect(done.map(({ code }) => code)).toEqual(Array(3).fill(NvmeStatus.abortedSqDeletion));
    expect(model.engine.inFlight).toBe(0);
  });
});

describe("a controller that is told to write to itself", () => {
  /** Writes of the device to this address land in its own registers, as on a fabric. */
  const OWN_REGISTERS = 0x9000_0000;

  function ready() {
    const made = makeNvme();
    const { host, port } = made;
    const write = port.write.bind(port);
    port.write = (address, source, offset, length) => {
      const at = address - OWN_REGISTERS;
      if (at < 0 || at >= 0x10000) return write(address, source, offset, length);
      const view = new DataView(source.buffer, source.byteOffset + offset, length);
      for (let i = 0; i + 4 <= length; i += 4) {
        host.registers.write32(at + i, view.getUint32(i, true));
      }
      return 0;
    };
    host.enable();
    return { ...made, queue: host.createQueue(1, 16) };
  }

  it("resets itself in the middle of a command, and can be enabled again", () => {
    const { host, model, queue } = ready();
    // Zeros of a block never written clear CC, among others.
    host.write(queue, { opcode: NvmOpcode.read, nsid: 1, prp1: OWN_REGISTERS });
    host.write(queue, { ...read(host) });
    host.ring(queue);
    host.settle();
    expect(host.registers.read32(spec.Reg.csts)).toBe(0);
    expect(model.engine.inFlight).toBe(0);
    expect(host.poll(queue)).toEqual([]);
    expect(host.enable()).toBe(1);
    expect(host.submit(host.createQueue(1, 16), read(host)).code).toBe(0);
  });

  it("takes doorbells from its own completions", () => {
    const { host, model } = ready();
    const create = {
      opcode: spec.AdminOpcode.createIoCq,
      prp1: OWN_REGISTERS + 0x1000,
      cdw10: (15 << 16) | 2,
      cdw11: 1,
    };
    expect(host.adminCommand(create).code).toBe(0);
    const sq = {
      ...create,
      opcode: spec.AdminOpcode.createIoSq,
      prp1: host.port.base + 200 * 4096,
    };
    expect(host.adminCommand({ ...sq, cdw11: (2 << 16) | 1 }).code).toBe(0);
    host.registers.write32(spec.sqTailDoorbell(2, 0), 3);
    host.settle();
    expect(model.inspect()["errors"]).toBeGreaterThan(0);
    // Its queue filled up with its own doorbells; a reset clears that.
    expect(host.enable(0)).toBe(0);
    expect(model.engine.inFlight).toBe(0);
    expect(host.enable()).toBe(1);
  });
});

function read(host: RawNvmeHost) {
  return { opcode: NvmOpcode.read, nsid: 1, prp1: host.data() };
}
