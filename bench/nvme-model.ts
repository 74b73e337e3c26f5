/**
 * The NVMe controller model alone, behind a port without a fabric: doorbell, fetch, PRP, one copy to or
 * from the medium, completion, interrupt; against that one copy. Queue depth 32, then 1.
 */

import * as spec from "../src/spec/nvme/index.ts";
import { makeNvme } from "../testing/nvme-raw-host.ts";
import { type Bench, cpuClock, formatNs, interleave } from "./lib.ts";

const BYTES = 4096;
const ENTRIES = 1024;
const BUFFERS = 32;
const WARM_UP_CALLS = 200_000;

/** A ring of commands around which the controller is sent, without writing entries again. */
function spinner(opcode: number, depth: number): (calls: number) => void {
  const { host, port, model } = makeNvme({
    namespaces: [{ sizeBytes: 64 << 20, lbaBytes: BYTES }],
  });
  host.enable();
  const queue = host.createQueue(1, ENTRIES);
  for (let i = 0; i < ENTRIES; i++) {
    host.write(queue, { opcode, nsid: 1, prp1: host.data((i % BUFFERS) * BYTES), cdw10: i });
  }
  const sqTail = spec.sqTailDoorbell(1, 0);
  const cqHead = spec.cqHeadDoorbell(1, 0);
  let at = 0;
  return (calls) => {
    for (let done = 0; done < calls; done += depth) {
      at = (at + depth) % ENTRIES;
      host.registers.write32(sqTail, at);
      while (port.woken) {
        port.woken = false;
        model.step();
      }
      host.registers.write32(cqHead, at);
    }
  };
}

function modelBench(name: string, opcode: number, depth: number, limit: number): Bench {
  return {
    name: `nvme-model-${name}-qd${depth}`,
    claim: `4 KiB ${name}s of the controller model, depth ${depth}, as a share of one 4 KiB copy`,
    run() {
      const spin = spinner(opcode, depth);
      spin(WARM_UP_CALLS);
      const source = new Uint8Array(BUFFERS * BYTES).fill(1);
      const target = new Uint8Array(ENTRIES * BYTES).fill(1);
      const views = Array.from({ length: BUFFERS }, (_, i) =>
        source.subarray(i * BYTES, (i + 1) * BYTES),
      );
      const copy = (calls: number): void => {
        for (let i = 0; i < calls; i++) {
          target.set(views[i % BUFFERS] as Uint8Array, (i % ENTRIES) * BYTES);
        }
      };
      const { ratio, subjectNs, referenceNs } = interleave(cpuClock, spin, copy, {
        calls: 4096,
        rounds: 31,
      });
      const figures = `${name} ${formatNs(subjectNs)}, copy ${formatNs(referenceNs)}`;
      return { ratio, limit, bound: "at-least", figures };
    },
  };
}

export const nvmeModelWriteDeep = modelBench("write", spec.NvmOpcode.write, 32, 0.2);
export const nvmeModelReadDeep = modelBench("read", spec.NvmOpcode.read, 32, 0.25);
export const nvmeModelWriteSingle = modelBench("write", spec.NvmOpcode.write, 1, 0.15);
