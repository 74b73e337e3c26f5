import { expect, it } from "vitest";
import {
  cutOften,
  type DurableDevice,
  type DurableOp,
  PromisedBlocks,
} from "../../../../testing/durability.ts";
import { makeNvme, type RawCommand } from "../../../../testing/nvme-raw-host.ts";
import { PowerCutFile, type PowerCutOptions } from "../../../../testing/power-cut-file.ts";
import { Prng, STORE_PENDING } from "../../../core/index.ts";
import * as spec from "../../../spec/nvme/index.ts";
import { FileStore } from "./index.ts";

const { NvmOpcode } = spec;
const BLOCKS = 24;
const DEPTH = 6;
const FUA = 1 << 30;
const DEAC = 1 << 25;
const SLOT_BYTES = 8192;
const LISTS_AT = DEPTH * SLOT_BYTES;

/** The controller model over a file, driven by entries and doorbells alone. */
function rawDevice(store: FileStore, lbaBytes: number, writeThrough: boolean): DurableDevice {
  const { host } = makeNvme({ namespaces: [{ store, lbaBytes }] });
  host.enable();
  const queue = host.createQueue(1, 16);
  if (writeThrough) {
    const fid = spec.Feature.volatileWriteCache;
    expect(host.adminCommand({ opcode: spec.AdminOpcode.setFeatures, cdw10: fid }).code).toBe(0);
  }
  const slots = new Map<number, number>();
  const commandOf = (op: DurableOp): RawCommand => {
    const at = host.data(op.slot * SLOT_BYTES);
    const fua = op.fua ? FUA : 0;
    const range = { nsid: 1, cdw10: op.lba, cdw12: ((op.blocks - 1) | fua) >>> 0 };
    switch (op.kind) {
      case "write":
        return { opcode: NvmOpcode.write, prp1: at, prp2: at + 4096, ...range };
      case "flush":
        return { opcode: NvmOpcode.flush, nsid: op.slot % 2 === 0 ? 1 : 0xffff_ffff };
      case "write zeroes": {
        const cdw12 = (range.cdw12 | (op.deallocates ? DEAC : 0)) >>> 0;
        return { opcode: NvmOpcode.writeZeroes, ...range, cdw12 };
      }
      default: {
        const list = LISTS_AT + op.slot * 4096;
        const bytes = host.bytes(list, 16);
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        view.setUint32(4, op.blocks, true);
        view.setUint32(8, op.lba, true);
        return { opcode: NvmOpcode.datasetManagement, nsid: 1, cdw11: 4, prp1: host.data(list) };
      }
    }
  };
  return {
    data: (slot) => host.bytes(slot * SLOT_BYTES, SLOT_BYTES),
    submit(op) {
      slots.set(host.write(queue, commandOf(op)), op.slot);
      host.ring(queue);
      host.settle();
    },
    step() {
      host.settle();
      return host.poll(queue).map(({ cid, code }) => {
        expect(code).toBe(0);
        return slots.get(cid) as number;
      });
    },
  };
}

type MakeStore = (file: PowerCutFile, capacityBytes: number) => FileStore;
const plain: MakeStore = (file, capacityBytes) => new FileStore(file, capacityBytes);

/** Runs of many seeds, each with a restart from what a cut left; what the cuts found, in all. */
function manyCuts(runs: number, lbaBytes: number, medium: PowerCutOptions, makeStore = plain) {
  const total = { cuts: 0, broken: 0, firstBroken: null as string | null };
  for (let seed = 1; seed <= runs; seed++) {
    const prng = new Prng(seed);
    let image: Uint8Array = new Uint8Array(BLOCKS * lbaBytes);
    for (let life = 0; life < 2; life++) {
      const file = new PowerCutFile(image, { ...medium, isDeferred: prng.chance(0.8) });
      file.canPunch = prng.chance(0.8);
      const writeThrough = prng.chance(0.3);
      const device = rawDevice(makeStore(file, image.length), lbaBytes, writeThrough);
      const promised = new PromisedBlocks(BLOCKS, lbaBytes, image);
      const blocksMax = SLOT_BYTES / lbaBytes;
      const sizes = { blocks: BLOCKS, blockBytes: lbaBytes, blocksMax, depth: DEPTH, steps: 80 };
      const options = { ...sizes, writeThrough, deallocates: file.canPunch };
      const report = cutOften(device, file, promised, prng, options);
      total.cuts += report.cuts;
      total.broken += report.broken;
      if (total.firstBroken === null && report.firstBroken !== null) {
        total.firstBroken = `seed ${seed}, life ${life}: ${report.firstBroken}`;
      }
      if (total.broken > 0) return total;
      image = file.afterCut(prng);
    }
  }
  return total;
}

it.each([
  [512, 14],
  [4096, 8],
])("blocks of %d bytes keep every promise through thousands of cuts", (lbaBytes, runs) => {
  const found = manyCuts(runs, lbaBytes, { sectorBytes: lbaBytes });
  expect(found).toMatchObject({ broken: 0, firstBroken: null });
  expect(found.cuts).toBeGreaterThan(2000);
});

it("a medium that only says it has synced is found out", () => {
  const found = manyCuts(5, 512, { sectorBytes: 512, isLying: true });
  expect(found.firstBroken).toMatch(/^seed \d, life \d: block \d+ holds contents/);
});

it("a store that answers a flush before the file did is found out", () => {
  class Hasty extends FileStore {
    override flush(): number {
      const status = super.flush({ storeDone: () => undefined }, 0);
      return status === STORE_PENDING ? 0 : status;
    }
  }
  const found = manyCuts(5, 512, { sectorBytes: 512 }, (file, bytes) => new Hasty(file, bytes));
  expect(found.firstBroken).toMatch(/holds contents/);
});

it("a medium with sectors smaller than a block tears blocks: AWUPF rests on the medium", () => {
  const found = manyCuts(5, 4096, { sectorBytes: 512 });
  expect(found.firstBroken).toMatch(/holds a mixture/);
});
