import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakePort } from "../../../../testing/fake-port.ts";
import { SparseMemory } from "../../../core/index.ts";
import { NvmeStatus, SglType, setSgl } from "../../../spec/nvme/index.ts";
import { ControllerMemory, MemoryWindow } from "./controller-memory.hot.ts";
import { PrpWalker } from "./prp-walker.hot.ts";
import { Direction, SegmentList } from "./segment-list.hot.ts";
import { SglWalker } from "./sgl-walker.hot.ts";

const RUNS = { seed: 20261124, numRuns: 300 };
const MIB = 1024 * 1024;
const CMB_BASE = 0x4_0000_0000;
const CMB_BYTES = MIB;
const USES = {
  submissionQueues: true,
  completionQueues: true,
  lists: true,
  readData: true,
  writeData: true,
};

function setUp() {
  const port = new FakePort({ sizeBytes: 4 * MIB });
  for (let i = 0; i < port.memory.length; i++) port.memory[i] = (i * 7 + (i >>> 8)) & 0xff;
  const cmb = new SparseMemory(CMB_BYTES, port.copier);
  const original = port.memory.slice(100, 100 + CMB_BYTES);
  cmb.write(0, original, 0, CMB_BYTES);
  const window = new MemoryWindow(cmb, USES);
  window.enable(CMB_BASE);
  const memory = new ControllerMemory(window, new MemoryWindow(null, USES));
  memory.attach(port);
  const list = new SegmentList(memory);
  list.begin(Direction.pull);
  /** The byte that was at an address before lists were written, by the plainest means. */
  const byteAt = (address: number): number => {
    if (address >= CMB_BASE) return original[address - CMB_BASE] as number;
    return port.memory[address - port.base] as number;
  };
  return { port, memory, list, byteAt };
}

function pullAll(list: SegmentList): Uint8Array {
  const target = new Uint8Array(list.sizeBytes);
  expect(list.pull(target, 0, target.length)).toBe(NvmeStatus.success);
  return target;
}

describe("PRP walker", () => {
  it("yields the bytes that the entries name, however they are laid out", () => {
    const { port, memory, byteAt } = setUp();
    const walker = new PrpWalker(memory);
    fc.assert(
      fc.property(
        fc.constantFrom(4096, 8192),
        fc.nat(1023).map((dword) => dword * 4),
        fc.integer({ min: 1, max: 300_000 }),
        fc.nat(511),
        fc.boolean(),
        fc.infiniteStream(fc.tuple(fc.boolean(), fc.nat(100))),
        (pageBytes, offset, length, listSlot, listInCmb, choices) => {
          const list = new SegmentList(memory);
          list.begin(Direction.pull);
          const pageAddress = (): number => {
            const [own, page] = choices.next().value as [boolean, number];
            return own ? CMB_BASE + page * pageBytes : port.base + MIB + page * pageBytes;
          };
          const count = Math.ceil((offset + length) / pageBytes);
          const pages = Array.from({ length: count }, pageAddress);
          const write64 = (address: number, value: number): void => {
            const bytes = new Uint8Array(8);
            const view = new DataView(bytes.buffer);
            view.setUint32(0, value >>> 0, true);
            view.setUint32(4, Math.floor(value / 2 ** 32), true);
            memory.write(address, bytes, 0, 8);
          };
          // List pages are the last ones of either memory, which no data page uses.
          const listPages = [0, 1, 2, 3].map((i) =>
            listInCmb && pageBytes === 4096
              ? CMB_BASE + CMB_BYTES - (i + 1) * pageBytes
              : port.base + 4 * MIB - (i + 1) * pageBytes,
          );
          let prp2 = pages[1] ?? 0;
          if (count > 2) {
            let at = (listPages.shift() as number) + (listSlot % (pageBytes / 8)) * 8;
            prp2 = at;
            for (let i = 1; i < count; i++) {
              const lastSlot = (at + 8) % pageBytes === 0;
              if (lastSlot && i < count - 1) {
                const next = listPages.shift() as number;
                write64(at, next);
                at = next;
              }
              write64(at, pages[i] as number);
              at += 8;
            }
          }
          const prp1 = (pages[0] as number) + offset;
          expect(walker.walk(list, prp1, prp2, length, pageBytes)).toBe(NvmeStatus.success);
          expect(list.sizeBytes).toBe(length);
          const pulled = pullAll(list);
          let page = 0;
          let at = offset;
          let same = true;
          for (let i = 0; i < length; i++) {
            if (at === pageBytes) {
              page++;
              at = 0;
            }
            same &&= pulled[i] === byteAt((pages[page] as number) + at);
            at++;
          }
          expect(same).toBe(true);
        },
      ),
      { ...RUNS, numRuns: 40 },
    );
  });

  it("makes one run of contiguous pages", () => {
    const { port, memory, list } = setUp();
    const view = port.view;
    for (let i = 0; i < 255; i++) {
      view.setUint32(i * 8, (port.base + 2 * MIB + (i + 1) * 4096) >>> 0, true);
      view.setUint32(i * 8 + 4, 1, true);
    }
    const walker = new PrpWalker(memory);
    expect(walker.walk(list, port.base + 2 * MIB, port.base, MIB, 4096)).toBe(0);
    expect(list.count).toBe(1);
    expect(list.sizeBytes).toBe(MIB);
  });
});

describe("SGL walker", () => {
  const block = fc.record({
    kind: fc.constantFrom("bus", "cmb", "offset", "bucket"),
    at: fc.nat(500_000),
    length: fc.nat(3000),
  });

  it("yields the bytes that the descriptors name, in any number of segments", () => {
    const { port, memory, byteAt } = setUp();
    const walker = new SglWalker(memory);
    fc.assert(
      fc.property(
        fc.array(block, { minLength: 1, maxLength: 40 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 40, maxLength: 40 }),
        (blocks, cuts) => {
          const list = new SegmentList(memory);
          list.begin(Direction.pull);
          const expected: number[] = [];
          const rows = blocks.map(({ kind, at, length }) => {
            const address =
              kind === "bus" ? port.base + MIB + at : kind === "cmb" ? CMB_BASE + at : at;
            const isBucket = kind === "bucket";
            if (!isBucket) {
              const from = kind === "offset" ? CMB_BASE + at : address;
              for (let i = 0; i < length; i++) expected.push(byteAt(from + i));
            }
            return {
              address,
              length,
              type: isBucket ? SglType.bitBucket : SglType.dataBlock,
              subtype: kind === "offset" ? 1 : 0,
            };
          });
          // Cut into segments, from the last to the first, each ending in a pointer to the next.
          const groups: (typeof rows)[] = [];
          for (let at = 0, i = 0; at < rows.length; i++) {
            groups.push(rows.slice(at, at + (cuts[i] as number)));
            at += cuts[i] as number;
          }
          let next: { address: number; length: number; type: number; subtype: number } | null =
            null;
          groups.reverse().forEach((group, i) => {
            const all = next === null ? group : [...group, next];
            const address = port.base + i * 1024;
            all.forEach((row, k) => {
              const at = address - port.base + k * 16;
              setSgl(port.view, at, row.address, row.length, row.type, row.subtype);
            });
            const type: number = next === null ? SglType.lastSegment : SglType.segment;
            next = { address, length: all.length * 16, type, subtype: 0 };
          });
          const first = next as unknown as { address: number; length: number; type: number };
          const status = walker.walk(
            list,
            Direction.pull,
            first.address,
            first.length,
            (first.type << 28) >>> 0,
            expected.length,
            NvmeStatus.dataSglLengthInvalid,
          );
          expect(status).toBe(NvmeStatus.success);
          expect(Buffer.compare(pullAll(list), Uint8Array.from(expected))).toBe(0);
        },
      ),
      { ...RUNS, numRuns: 60 },
    );
  });

  it("never gives more bytes than were asked for, whatever the descriptors say", () => {
    const { port, memory } = setUp();
    const walker = new SglWalker(memory);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 256, maxLength: 256 }),
        fc.nat(0xffff_ffff),
        fc.nat(65_536),
        fc.constantFrom<number>(Direction.pull, Direction.push),
        (bytes, typeWord, length, direction) => {
          const list = new SegmentList(memory);
          list.begin(direction);
          port.memory.set(bytes, 0);
          const known = new Set<number>(Object.values(NvmeStatus));
          const status = walker.walk(
            list,
            direction,
            port.base,
            256,
            typeWord,
            length,
            NvmeStatus.dataSglLengthInvalid,
          );
          expect(known.has(status)).toBe(true);
          expect(list.sizeBytes).toBeLessThanOrEqual(length);
          if (status === NvmeStatus.success) expect(list.sizeBytes).toBe(length);
        },
      ),
      RUNS,
    );
  });
});

describe("segment list", () => {
  it("pushes and pulls the same bytes in pieces of any size", () => {
    const { port, memory } = setUp();
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(300_000), fc.integer({ min: 1, max: 5000 })), {
          minLength: 1,
          maxLength: 30,
        }),
        fc.array(fc.integer({ min: 1, max: 7000 }), { minLength: 1 }),
        (runs, pieces) => {
          const list = new SegmentList(memory);
          list.begin(Direction.push);
          // Runs that do not overlap, so that what was pushed can be pulled again.
          runs.forEach(([own, jitter, length], i) => {
            const at = i * 8192 + (jitter % 3000);
            list.addAddress(own ? CMB_BASE + at : port.base + MIB + at, length);
          });
          const data = Uint8Array.from({ length: list.sizeBytes }, (_, i) => (i * 31) & 0xff);
          let done = 0;
          for (let i = 0; done < data.length; i++) {
            const piece = Math.min(pieces[i % pieces.length] as number, data.length - done);
            expect(list.push(data, done, piece)).toBe(0);
            done += piece;
          }
          list.rewind();
          expect(Buffer.compare(pullAll(list), data)).toBe(0);
        },
      ),
      { ...RUNS, numRuns: 60 },
    );
  });
});
