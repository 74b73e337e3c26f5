import { beforeEach, describe, expect, it } from "vitest";
import { type RdmaPair, type RdmaPairOptions, rdmaPair } from "../../testing/rdma-pair.ts";
import {
  ALL_ACCESS,
  connectEnds,
  type End,
  pattern,
  type Reaped,
  reap,
  recv,
  send,
  statusesOf,
} from "../../testing/verbs-setup.ts";
import { crc32c } from "../core/index.ts";
import type { GpuDevice, GpuExport } from "../gpu/index.ts";
import { Access, WcStatus, WrOpcode } from "../spec/rdma/index.ts";
import type { Mr } from "./index.ts";

const BYTES = 256 * 1024;
const IOVA = 0x7000_0000;

interface Setup {
  readonly pair: RdmaPair;
  /** Remote. */
  readonly a: End;
  /** Beside the GPU. */
  readonly b: End;
  readonly gpu: GpuDevice;
  readonly exported: GpuExport;
  readonly mr: Mr;
}

async function setup(options: RdmaPairOptions = {}, access = ALL_ACCESS): Promise<Setup> {
  const pair = await rdmaPair({ gpu: true, ...options });
  const gpu = pair.b.gpu();
  const { a, b } = await connectEnds(pair, { connect: { rnrRetryCount: 7 } });
  const exported = gpu.exportBuffer(gpu.allocate(BYTES), { rules: pair.b.rules });
  const part = { offset: 0, length: BYTES, iova: IOVA, access };
  const mr = await pair.drive(b.pd.registerDmaBuf(exported.dmaBuf, part));
  return { pair, a, b, gpu, exported, mr };
}

/** A write of `length` bytes of a's memory to the region at `at`. */
function writeTo({ a, mr }: Setup, at: number, length: number, wrId = 0) {
  const wr = send(a, 0, length, wrId);
  wr.opcode = WrOpcode.rdmaWrite;
  wr.remoteAddress = mr.address + at;
  wr.rkey = mr.rkey;
  return wr;
}

/** Polls until so many completions came. Control planes go on meanwhile. */
async function completions(pair: RdmaPair, ends: readonly End[], count: number): Promise<Reaped[]> {
  const done: Reaped[] = [];
  for (let i = 0; i < 100_000 && done.length < count; i++) {
    pair.poll();
    await Promise.resolve();
    for (const { cq } of ends) done.push(...reap(cq));
  }
  expect(done.length).toBe(count);
  return done;
}

/** Posts on a and polls until it completed. */
async function complete({ pair, a }: Setup, wr: ReturnType<typeof send>): Promise<Reaped> {
  expect(a.qp.postSend(wr)).toBe(0);
  a.qp.kick();
  return (await completions(pair, [a], 1))[0];
}

/** Begins a move and returns when the device knows that the region is suspended. */
async function suspended({ pair, exported }: Setup): Promise<Promise<void>[]> {
  const move = exported.compact();
  const { regions } = pair.b.model.engine;
  for (let i = 0; i < 100 && regions.suspendedCount === 0; i++) await Promise.resolve();
  expect(regions.suspendedCount).toBe(1);
  // In an array, or returning it would wait for it.
  return [move];
}

describe("a dma-buf as a memory region", () => {
  let s: Setup;
  beforeEach(async () => {
    s = await setup();
  });

  it("lets a peer write into VRAM, and the GPU sees what was sent", async () => {
    const { pair, a, gpu, exported, mr } = s;
    expect([mr.address, mr.length, mr.valid]).toEqual([IOVA, BYTES, true]);
    const data = pattern(a, 0, BYTES);
    expect((await complete(s, writeTo(s, 0, BYTES))).status).toBe(WcStatus.success);
    expect(await pair.drive(gpu.crc32c(exported.buffer))).toBe(crc32c(data));
    expect(exported.buffer.place.kind).toBe("vram");
    expect(pair.b.fabric.hostMemoryTraffic().some(({ purpose }) => purpose === "payload")).toBe(
      false,
    );
  });

  it("survives a move: same keys, same addresses, the new place", async () => {
    const { pair, a, gpu, exported, mr } = s;
    const first = pattern(a, 0, 4096, 1);
    await complete(s, writeTo(s, 0, 4096));
    const before = exported.buffer.place;
    await pair.drive(exported.compact());
    expect(exported.buffer.place).not.toEqual(before);
    const keys = [mr.lkey, mr.rkey];
    const second = pattern(a, 0, 4096, 2);
    expect((await complete(s, writeTo(s, 8192, 4096))).status).toBe(WcStatus.success);
    expect([mr.lkey, mr.rkey, mr.valid]).toEqual([...keys, true]);
    expect(await pair.drive(gpu.crc32c(exported.buffer, 0, 4096))).toBe(crc32c(first));
    expect(await pair.drive(gpu.crc32c(exported.buffer, 8192, 4096))).toBe(crc32c(second));
    await pair.drive(exported.evict());
    const third = pattern(a, 0, 4096, 3);
    expect((await complete(s, writeTo(s, 4096, 4096))).status).toBe(WcStatus.success);
    const { place } = exported.buffer;
    const seen = place.kind === "host" ? place.region.bytes.slice(4096, 8192) : [];
    expect([...seen]).toEqual([...third]);
  });

  it("makes peers wait while it moves, and loses nothing of what they send", async () => {
    const { pair, a, b, gpu, exported, mr } = s;
    const data = pattern(a, 0, BYTES);
    // The GPU's copy needs polls of the fabric: until then the region is suspended.
    const [move] = await suspended(s);
    expect(mr.valid).toBe(false);
    const works = [writeTo(s, 0, BYTES, 1), writeTo(s, 0, BYTES, 2)];
    const read = send(a, 0, 4096, 3);
    read.opcode = WrOpcode.rdmaRead;
    read.remoteAddress = mr.address;
    read.rkey = mr.rkey;
    for (const wr of [...works, read]) expect(a.qp.postSend(wr)).toBe(0);
    a.qp.kick();
    await pair.drive(move);
    const done = await completions(pair, [a], 3);
    expect(statusesOf(done)).toEqual([0, 0, 0]);
    expect(await pair.drive(gpu.crc32c(exported.buffer))).toBe(crc32c(data));
    expect(pair.a.model.engine.rnrNaks + pair.b.model.engine.rnrNaks).toBeGreaterThan(0);
    expect(b.qp.state).toBe(a.qp.state);
  });

  it("holds its own work back while it moves: SENDs from it, RECVs into it", async () => {
    const { pair, a, b, gpu, exported, mr } = s;
    await complete(s, writeTo(s, 0, 4096));
    const sent = pattern(a, 0, 4096, 9);
    await complete(s, writeTo(s, 0, 4096));
    const [move] = await suspended(s);
    // Out of the region, to a.
    const out = send(b, 0, 4096, 1);
    out.setSge(mr.address, 4096, mr.lkey);
    expect(a.qp.postRecv(recv(a, 8192, 4096, 2))).toBe(0);
    expect(b.qp.postSend(out)).toBe(0);
    b.qp.kick();
    // Into the region, from a.
    const into = recv(b, 0, 4096, 3);
    into.setSge(mr.address + 4096, 4096, mr.lkey);
    expect(b.qp.postRecv(into)).toBe(0);
    expect(a.qp.postSend(send(a, 0, 4096, 4))).toBe(0);
    a.qp.kick();
    await pair.drive(move);
    const done = await completions(pair, [a, b], 4);
    expect(statusesOf(done)).toEqual([0, 0, 0, 0]);
    expect([...a.bytes.subarray(8192, 12_288)]).toEqual([...sent]);
    expect(await pair.drive(gpu.crc32c(exported.buffer, 4096, 4096))).toBe(crc32c(sent));
  });

  it("after a revoke: remote access error for peers, protection error for own work", async () => {
    const { pair, exported, mr, gpu } = s;
    await pair.drive(exported.revoke());
    expect(mr.valid).toBe(false);
    const before = gpu.freeBytes;
    gpu.free(exported.buffer);
    expect(gpu.freeBytes).toBeGreaterThan(before);
    expect((await complete(s, writeTo(s, 0, 4096))).status).toBe(WcStatus.remoteAccessError);
    const other = await setup();
    await other.pair.drive(other.exported.revoke());
    const own = send(other.b, 0, 64);
    own.setSge(other.mr.address, 64, other.mr.lkey);
    expect(other.b.qp.postSend(own)).toBe(0);
    other.b.qp.kick();
    const done = await completions(other.pair, [other.b], 1);
    expect(done[0].status).toBe(WcStatus.localProtectionError);
    await pair.drive(mr.deregister());
  });

  it("is revoked in the middle of a move, and stays dead", async () => {
    const { pair, exported, mr } = s;
    const [move] = await suspended(s);
    const revoke = exported.revoke();
    await pair.drive(Promise.allSettled([move, revoke]));
    for (let i = 0; i < 100; i++) await Promise.resolve();
    expect(mr.valid).toBe(false);
    expect((await complete(s, writeTo(s, 0, 64))).status).toBe(WcStatus.remoteAccessError);
  });

  it("holds the buffer where it is, if asked to", async () => {
    const { pair, b, exported } = s;
    const part = { offset: 4096, length: 4096, iova: 0, access: Access.localWrite, pinned: true };
    const pinned = await pair.drive(b.pd.registerDmaBuf(exported.dmaBuf, part));
    await expect(pair.drive(exported.compact())).rejects.toMatchObject({ code: "dma-buf-pinned" });
    await pair.drive(pinned.deregister());
    await pair.drive(exported.compact());
  });

  it("refuses parts that cannot be, and leaves nothing attached", async () => {
    const { pair, b, exported } = s;
    const part = { offset: 0, length: BYTES, iova: 0, access: ALL_ACCESS };
    for (const bad of [{ offset: BYTES }, { length: 0 }, { offset: -4096 }, { iova: 12 }]) {
      const registering = b.pd.registerDmaBuf(exported.dmaBuf, { ...part, ...bad });
      await expect(pair.drive(registering)).rejects.toMatchObject({ code: "mr-dma-buf" });
    }
    await pair.drive(exported.revoke());
    await expect(pair.drive(b.pd.registerDmaBuf(exported.dmaBuf, part))).rejects.toMatchObject({
      code: "dma-buf-revoked",
    });
  });

  it("goes with its device, and the buffer is free to move", async () => {
    const { pair, exported } = s;
    await pair.drive(pair.b.rdma.close());
    expect(exported.dmaBuf.inspect()["attachments"]).toEqual([]);
  });
});

describe("a region that moves", () => {
  it("moves again and again under a stream of writes, in time and through an IOMMU", async () => {
    const s = await setup({ timed: true, iommu: "strict" });
    const { pair, a, gpu, exported } = s;
    let data = pattern(a, 0, BYTES, 0);
    for (let round = 0; round < 6; round++) {
      data = pattern(a, 0, BYTES, round);
      const wr = writeTo(s, 0, BYTES, round);
      expect(a.qp.postSend(wr)).toBe(0);
      a.qp.kick();
      pair.poll();
      await pair.drive(round % 3 === 2 ? exported.makeResident() : exported.compact());
      expect(statusesOf(await completions(pair, [a], 1))).toEqual([0]);
    }
    expect(await pair.drive(gpu.crc32c(exported.buffer))).toBe(crc32c(data));
  });
});
