/**
 * A peer DMA of 1 MiB through the whole fabric, functional mode, against one copy of that size: the
 * fabric must add no second copy and next to nothing per transfer.
 */

import { buildFabric, DeviceMemory, type DevicePort } from "../src/fabric/index.ts";
import { barOf, endpointsOf, MIB, sameSwitch } from "../testing/machines.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

class PortKeeper extends DeviceMemory {
  port: DevicePort | null = null;
  override attach(port: DevicePort): void {
    this.port = port;
  }
}

/** A machine of two devices below a switch, and the first one's port. */
export function peerPair(barBytes: number): { port: DevicePort; peerBus: number } {
  const bars = [{ sizeBytes: barBytes }];
  const machine = sameSwitch(undefined, { endpoints: [{ bars }, { bars }] });
  const models: PortKeeper[] = [];
  buildFabric(machine, {
    model: (_fn, { copier, barSizes }) => {
      const model = new PortKeeper({ copier, barSizes });
      models.push(model);
      return model;
    },
  });
  const peer = endpointsOf(machine)[1];
  const port = models[0]?.port;
  if (peer === undefined || port == null) throw new Error("the machine has two endpoints");
  return { port, peerBus: barOf(machine, peer).address };
}

const BYTES = MIB;
const SLOTS = 16;

export const fabricDma: Bench = {
  name: "fabric-dma",
  claim: "1 MiB peer write through the fabric, as a share of the rate of one Uint8Array.set",
  run(clock) {
    const { port, peerBus } = peerPair(SLOTS * BYTES);
    const source = new Uint8Array(SLOTS * BYTES).fill(1);
    const target = new Uint8Array(SLOTS * BYTES).fill(1);
    let slot = 0;
    const dma = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        slot = (slot + 1) % SLOTS;
        port.write(peerBus + slot * BYTES, source, slot * BYTES, BYTES);
      }
    };
    const set = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        slot = (slot + 1) % SLOTS;
        target.set(source.subarray(slot * BYTES, (slot + 1) * BYTES), slot * BYTES);
      }
    };
    const { ratio, subjectNs, referenceNs } = interleave(clock, dma, set, { calls: 200 });
    return {
      ratio,
      limit: 0.9,
      bound: "at-least",
      figures: `DMA ${formatNs(subjectNs)}, set ${formatNs(referenceNs)}`,
    };
  },
};
