import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeNvme, type RawCommand } from "../../../../testing/nvme-raw-host.ts";
import { Copier, type NamespaceStore, Prng, Span, STORE_PENDING } from "../../../core/index.ts";
import { type BlockFile, openBlockFile } from "../../../platform/index.ts";
import * as spec from "../../../spec/nvme/index.ts";
import { FileStore, MemoryStore } from "./index.ts";

const MIB = 1024 * 1024;
const { NvmOpcode } = spec;

let folder = "";
const open: BlockFile[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "peerlane-nvme-"));
});
afterAll(async () => {
  await Promise.all(open.map((file) => file.idle()));
  for (const file of open) file.close();
  rmSync(folder, { recursive: true });
});

function fileStore(name: string, sizeBytes: number): FileStore {
  const file = openBlockFile(join(folder, name), { sizeBytes });
  open.push(file);
  return new FileStore(file, sizeBytes);
}

function put(store: NamespaceStore, offset: number, bytes: Uint8Array): void {
  const span = new Span();
  for (let done = 0; done < bytes.length; ) {
    expect(store.lendForWrite(offset + done, bytes.length - done, span)).toBe(0);
    span.bytes.set(bytes.subarray(done, done + span.length), span.offset);
    expect(store.commit(offset + done, span.length, span)).toBe(0);
    done += span.length;
  }
}

function get(store: NamespaceStore, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const span = new Span();
  for (let done = 0; done < length; ) {
    expect(store.lend(offset + done, length - done, span)).toBe(0);
    bytes.set(span.bytes.subarray(span.offset, span.offset + span.length), done);
    done += span.length;
  }
  return bytes;
}

describe.each(["memory", "file"])("a store in %s", (kind) => {
  const make = (name: string): NamespaceStore =>
    kind === "memory" ? new MemoryStore(4 * MIB, new Copier()) : fileStore(name, 4 * MIB);

  it("keeps what was committed, across its chunks, and zeros elsewhere", () => {
    const store = make("keep.img");
    const bytes = new Uint8Array(3 * MIB);
    new Prng(1).fill(bytes);
    put(store, 512, bytes);
    expect(Buffer.compare(get(store, 512, bytes.length), bytes)).toBe(0);
    expect(get(store, 0, 512).every((byte) => byte === 0)).toBe(true);
    expect(get(store, 4 * MIB - 512, 512).every((byte) => byte === 0)).toBe(true);
    expect(store.zero(1024, MIB)).toBe(0);
    expect(get(store, 1024, MIB).every((byte) => byte === 0)).toBe(true);
    expect(get(store, 512, 1)[0]).toBe(bytes[0]);
    expect(store.zero(0, 4 * MIB)).toBe(0);
    expect(get(store, 0, 4 * MIB).every((byte) => byte === 0)).toBe(true);
    expect([0, STORE_PENDING]).toContain(store.flush({ storeDone: () => undefined }, 1));
  });

  it("has room for metadata after its data", () => {
    const store = make("metadata.img");
    put(store, 4 * MIB, Uint8Array.of(1, 2, 3));
    expect([...get(store, 4 * MIB, 4)]).toEqual([1, 2, 3, 0]);
  });
});

describe("a namespace on a file", () => {
  function ready(store: NamespaceStore, more = {}) {
    const made = makeNvme({ namespaces: [{ store, ...more }] });
    made.host.enable();
    const queue = made.host.createQueue(1, 16);
    const run = (command: RawCommand) => made.host.submit(queue, { nsid: 1, ...command });
    return { ...made, queue, run };
  }

  it("is the file's bytes: an image can be written by one and read by another", async () => {
    const store = fileStore("image.img", 2 * MIB);
    const { host, run, queue } = ready(store);
    const data = host.bytes(0, 8192);
    new Prng(3).fill(data);
    const write = { opcode: NvmOpcode.write, prp1: host.data(), prp2: host.data(4096), cdw12: 15 };
    expect(run({ ...write, cdw10: 100 }).code).toBe(0);
    host.write(queue, { opcode: NvmOpcode.flush, nsid: 1 });
    host.ring(queue);
    host.settle();
    expect(host.poll(queue)).toEqual([]);
    await open.at(-1)?.idle();
    host.settle();
    expect(host.poll(queue)).toMatchObject([{ code: 0 }]);
    expect(store.syncs).toBe(1);
    const image = readFileSync(join(folder, "image.img"));
    expect(image.length).toBe(2 * MIB);
    expect(Buffer.compare(image.subarray(51_200, 51_200 + 8192), data)).toBe(0);
    const again = ready(fileStore("image.img", 2 * MIB));
    const read = { opcode: NvmOpcode.read, cdw10: 100, cdw12: 15 };
    const buffer = { prp1: again.host.data(), prp2: again.host.data(4096) };
    expect(again.run({ ...read, ...buffer }).code).toBe(0);
    expect(Buffer.compare(again.host.bytes(0, 8192), data)).toBe(0);
  });

  it("with metadata and protection information keeps both", () => {
    const format = { lbaBytes: 4096, metadataBytes: 8, piType: 1 };
    const { host, run } = ready(fileStore("pi.img", 2 * MIB), format);
    new Prng(4).fill(host.bytes(0, 4096));
    const prinfo = (spec.PRACT | spec.PRCHK_GUARD | spec.PRCHK_REF) << 26;
    const io = { prp1: host.data(), cdw10: 7, cdw12: prinfo >>> 0, cdw14: 7 };
    expect(run({ opcode: NvmOpcode.write, ...io }).code).toBe(0);
    expect(run({ opcode: NvmOpcode.read, ...io, prp1: host.data(8192) }).code).toBe(0);
    expect(Buffer.compare(host.bytes(0, 4096), host.bytes(8192, 4096))).toBe(0);
    const other = { opcode: NvmOpcode.read, ...io, cdw10: 8, cdw14: 8 };
    expect(run(other).code).toBe(0);
  });
});
