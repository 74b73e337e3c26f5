import { describe, expect, it } from "vitest";
import { bytesPerCall, retainedBytes } from "../../../../testing/heap.ts";
import { makeNvme } from "../../../../testing/nvme-raw-host.ts";
import * as spec from "../../../spec/nvme/index.ts";

const ENTRIES = 256;

/** A ring full of the same kind of command; `spin` lets the controller go around it. */
function spinner(opcode: number, depth: number) {
  const { host, port, model } = makeNvme({
    namespaces: [{ sizeBytes: 64 << 20, lbaBytes: 4096 }],
  });
  host.enable();
  const queue = host.createQueue(1, ENTRIES);
  for (let i = 0; i < ENTRIES; i++) {
    const prp1 = host.data((i % 16) * 4096);
    host.write(queue, { opcode, nsid: 1, prp1, cdw10: i * 7 });
  }
  const sqTail = spec.sqTailDoorbell(1, 0);
  const cqHead = spec.cqHeadDoorbell(1, 0);
  let at = 0;
  const spin = (commands: number): void => {
    for (let done = 0; done < commands; done += depth) {
      at = (at + depth) % ENTRIES;
      host.registers.write32(sqTail, at);
      while (port.woken) {
        port.woken = false;
        model.step();
      }
      host.registers.write32(cqHead, at);
    }
  };
  return { spin, model, host, queue };
}

describe("the I/O path", () => {
  it.each([
    ["write", spec.NvmOpcode.write, 16],
    ["read", spec.NvmOpcode.read, 16],
    ["read one by one", spec.NvmOpcode.read, 1],
    ["flush", spec.NvmOpcode.flush, 16],
  ])("makes no object per %s", (_name, opcode, depth) => {
    const { spin, model } = spinner(opcode, depth);
    // Doubles that cross calls are boxed; an object, a view or a closure would be more than this.
    expect(bytesPerCall(4096, spin)).toBeLessThan(150);
    expect(model.engine.inFlight).toBe(0);
    expect(model.inspect()["errors"]).toBe(0);
  });

  it("keeps nothing of forty thousand commands", () => {
    const { spin } = spinner(spec.NvmOpcode.write, 32);
    spin(ENTRIES * 16);
    expect(retainedBytes(() => spin(40_960))).toBeLessThan(100_000);
  });
});
