import { describe, expect, it } from "vitest";
import { makeNvme, type RawCommand } from "../../../../testing/nvme-raw-host.ts";
import * as spec from "../../../spec/nvme/index.ts";
import type { NvmeFaultRule } from "./index.ts";

const { NvmeStatus, NvmOpcode, AdminOpcode } = spec;

function ready(rules: NvmeFaultRule[], seed = 1) {
  const made = makeNvme({
    namespaces: [{ sizeBytes: 1 << 20 }, { sizeBytes: 1 << 20 }],
    faults: { seed, rules },
  });
  made.host.enable();
  const queue = made.host.createQueue(1, 64);
  const run = (command: RawCommand) => made.host.submit(queue, { nsid: 1, ...command });
  const read = (more = {}) => run({ opcode: NvmOpcode.read, prp1: made.host.data(), ...more }).code;
  return { ...made, queue, run, read };
}

describe("fault rules", () => {
  it("hit by opcode, namespace, range and count", () => {
    const status = NvmeStatus.unrecoveredReadError;
    const { read, run, model } = ready([
      { opcode: NvmOpcode.read, nsid: 2, status },
      { opcode: NvmOpcode.read, firstLba: 100, lastLba: 199, status, count: 2 },
    ]);
    expect(read()).toBe(0);
    expect(read({ nsid: 2 })).toBe(status);
    expect(read({ cdw10: 99 })).toBe(0);
    expect(read({ cdw10: 150 })).toBe(status);
    expect(run({ opcode: NvmOpcode.verify, cdw10: 150 }).code).toBe(0);
    expect(read({ cdw10: 199 })).toBe(status);
    expect(read({ cdw10: 150 })).toBe(0);
    expect(model.inspect()["faults"]).toEqual({ "rule 0": 1, "rule 1": 2 });
  });

  it("hit admin commands only when they say so", () => {
    const { host, read } = ready([
      { admin: true, opcode: AdminOpcode.identify, status: NvmeStatus.internalError, count: 1 },
    ]);
    const identify = { opcode: AdminOpcode.identify, prp1: host.data(), cdw10: 1 };
    expect(host.adminCommand(identify).code).toBe(NvmeStatus.internalError);
    expect(host.adminCommand(identify).code).toBe(0);
    expect(read()).toBe(0);
  });

  it("a delay holds the completion, the data is there", () => {
    const { host, port, queue } = ready([{ opcode: NvmOpcode.write, delayNs: 5000 }]);
    host.bytes(0, 512).fill(0x77);
    const cid = host.write(queue, { opcode: NvmOpcode.write, nsid: 1, prp1: host.data() });
    host.ring(queue);
    host.settle();
    expect(host.poll(queue)).toEqual([]);
    port.advance(4999);
    expect(host.poll(queue)).toEqual([]);
    port.advance(1);
    expect(host.poll(queue).map((done) => [done.cid, done.code])).toEqual([[cid, 0]]);
  });

  it("a delay that runs out after a reset touches nothing", () => {
    const { host, port, queue, model } = ready([{ opcode: NvmOpcode.read, delayNs: 5000 }]);
    host.write(queue, { opcode: NvmOpcode.read, nsid: 1, prp1: host.data() });
    host.ring(queue);
    host.settle();
    host.enable(0);
    host.enable();
    const again = host.createQueue(1, 64);
    host.write(again, { opcode: NvmOpcode.verify, nsid: 1 });
    port.advance(5000);
    expect(model.engine.inFlight).toBe(0);
    expect(host.poll(again)).toEqual([]);
  });

  it("draw the same with the same seed", () => {
    const draw = (seed: number): string => {
      const { read } = ready([{ probability: 0.3, status: NvmeStatus.internalError }], seed);
      return Array.from({ length: 40 }, () => (read() === 0 ? "." : "x")).join("");
    };
    expect(draw(5)).toBe(draw(5));
    expect(draw(5)).not.toBe(draw(6));
    expect(draw(5)).toMatch(/x.*\..*x/);
  });

  it("can be changed while the controller runs", () => {
    const { read, model } = ready([{ status: NvmeStatus.internalError }]);
    expect(read()).toBe(NvmeStatus.internalError);
    model.injectFaults([]);
    expect(read()).toBe(0);
    model.injectFaults([{ opcode: NvmOpcode.read, status: NvmeStatus.namespaceNotReady }]);
    expect(read()).toBe(NvmeStatus.namespaceNotReady);
  });
});
