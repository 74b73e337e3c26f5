/** Captures over a network in memory: what is recorded, when it stops, what a bad disk does. */

import { describe, expect, it } from "vitest";
import { connectionsOf, readCapture, sentBy } from "../../../testing/capture-reader.ts";
import { PeerlaneError } from "../../core/index.ts";
import {
  type ByteStream,
  ManualClock,
  MemoryNetwork,
  type RecordFile,
  type RecordFiles,
} from "../../platform/index.ts";
import { Capture, type CaptureEvent } from "./capture.ts";

const AT = { address: "127.0.0.1", port: 4420 };
const MIB = 2 ** 20;

/** A disk in memory, which may be full. */
class MemoryDisk implements RecordFiles {
  readonly files = new Map<string, Uint8Array>();
  roomBytes = Number.POSITIVE_INFINITY;
  open = 0;

  create(path: string): RecordFile {
    this.files.set(path, new Uint8Array(0));
    this.open++;
    return {
      path,
      append: (bytes) => {
        const had = this.files.get(path) as Uint8Array;
        if (had.length + bytes.length > this.roomBytes) {
          throw new PeerlaneError("record-file", `cannot write ${path}: no space left`);
        }
        this.files.set(path, Buffer.concat([had, bytes]));
      },
      close: () => {
        this.open--;
      },
    };
  }

  read(path = "c"): ReturnType<typeof readCapture> {
    return readCapture(this.files.get(path) ?? new Uint8Array(0));
  }
}

async function setup() {
  const inner = new MemoryNetwork();
  const clock = new ManualClock(1e9, 1_700_000_000_000);
  const disk = new MemoryDisk();
  const events: CaptureEvent[] = [];
  const capture = new Capture({ files: disk, clock, onEvent: (event) => events.push(event) });
  const network = capture.around(inner);
  const accepted: ByteStream[] = [];
  const got: number[] = [];
  await network.listen(AT, (stream) => {
    accepted.push(stream);
    stream.start({
      onData: (bytes) => got.push(bytes.length),
      onDrain: () => undefined,
      onEnd: () => got.push(-1),
    });
  });
  const connect = async (): Promise<ByteStream> => {
    const stream = await inner.connect(AT);
    stream.start({ onData: () => undefined, onDrain: () => undefined, onEnd: () => undefined });
    return stream;
  };
  const run = (): void => {
    while (inner.poll() > 0);
  };
  const start = (bytes = MIB, path = "c"): void =>
    capture.start({ path, max_bytes: bytes, overwrite: false });
  return { inner, clock, disk, events, capture, network, accepted, got, connect, run, start };
}

describe("a capture", () => {
  it("records both directions of a connection from its beginning to its end", async () => {
    const { start, connect, run, accepted, disk, capture, clock, got } = await setup();
    start();
    const host = await connect();
    host.write(new Uint8Array(100).fill(1));
    run();
    accepted[0]?.write(new Uint8Array(70).fill(2));
    run();
    host.end();
    run();
    capture.stop("enough");
    const file = disk.read();
    const [one, ...more] = connectionsOf(file);
    expect(more).toEqual([]);
    expect(one).toMatchObject({ near: "127.0.0.1:4420", ending: "fin" });
    expect(one?.far).toMatch(/^127.0.0.1:\d+$/);
    expect(one?.pieces.map(({ isInbound, bytes }) => [isInbound, bytes.length])).toEqual([
      [true, 100],
      [false, 70],
    ]);
    expect(file.end).toEqual({ received: file.packets.length, comment: "enough" });
    expect(got).toEqual([100, -1]);
    expect(disk.open).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it("is off until it is started: streams are the network's own, and stay unrecorded", async () => {
    const { start, connect, run, disk, capture, network, inner } = await setup();
    let direct: unknown;
    await inner.listen({ ...AT, port: 1 }, (stream) => {
      direct = stream;
    });
    const before = await network.connect({ ...AT, port: 1 });
    expect(before.constructor).toBe((direct as object).constructor);
    const early = await connect();
    start();
    early.write(new Uint8Array(10));
    const late = await connect();
    late.write(new Uint8Array(20));
    run();
    capture.close();
    expect(connectionsOf(disk.read()).map((one) => sentBy(one, true).length)).toEqual([20]);
  });

  it("has what happened in its file within 100 ms", async () => {
    const { start, connect, run, disk, clock } = await setup();
    start();
    const host = await connect();
    host.write(new Uint8Array(10));
    run();
    expect(disk.read().packets).toHaveLength(0);
    clock.advanceUs(100_000);
    expect(disk.read().packets).toHaveLength(4);
    expect(disk.read().end).toBeNull();
    expect(clock.pendingTimers).toBe(0);
  });

  it("stops at its limit, never beyond, and connections go on", async () => {
    for (const piece of [1, 999, 70_000]) {
      const { start, connect, run, disk, events, got, clock } = await setup();
      start(100_000);
      const host = await connect();
      for (let i = 0; i < 2000; i++) host.write(new Uint8Array(piece));
      run();
      expect(got).toHaveLength(2000);
      const bytes = disk.files.get("c")?.length ?? 0;
      expect(bytes).toBeLessThanOrEqual(100_000);
      if (piece < 1000) expect(bytes).toBeGreaterThan(95_000);
      expect(disk.read().end?.comment).toBe("its limit of 97.7 KiB is reached");
      expect(events.at(-1)).toMatchObject({ what: "capture-stopped", isUnasked: true, bytes });
      expect([disk.open, clock.pendingTimers]).toEqual([0, 0]);
    }
  });

  it("stops when the disk is full, keeps what is whole, and connections go on", async () => {
    const { start, connect, run, disk, events, got, capture, clock } = await setup();
    start(100 * MIB);
    disk.roomBytes = MIB;
    const host = await connect();
    for (let i = 0; i < 100; i++) {
      host.write(new Uint8Array(50_000));
      run();
    }
    host.end();
    run();
    expect(got).toHaveLength(101);
    expect(events.map(({ what }) => what)).toEqual(["capture-started", "capture-stopped"]);
    expect(events[1]).toMatchObject({ isUnasked: true, reason: "cannot write c: no space left" });
    expect(capture.inspect()).toMatchObject({ running: false, stopped: events[1]?.reason });
    expect(disk.read().packets.length).toBeGreaterThan(10);
    expect([disk.open, clock.pendingTimers]).toEqual([0, 0]);
    disk.roomBytes = Number.POSITIVE_INFINITY;
    start(MIB, "second");
    expect(capture.inspect()).toMatchObject({ running: true, path: "second" });
  });

  it("does not start where nothing can be written", async () => {
    const { start, disk, events, capture } = await setup();
    disk.roomBytes = 10;
    expect(() => start()).toThrow(/no space left/);
    expect([disk.open, events.length, capture.current]).toEqual([0, 0, null]);
  });

  it("is one at a time, and there is none to stop before it is started", async () => {
    const { start, capture } = await setup();
    expect(() => capture.stop("now")).toThrow(expect.objectContaining({ code: "no-capture" }));
    start();
    expect(() => start()).toThrow(expect.objectContaining({ code: "capture-running" }));
  });

  it("knows a reset from a close, and marks what was decrypted", async () => {
    const { start, inner, network, disk, capture, run } = await setup();
    start();
    const key = new Uint8Array(32).fill(7);
    const events = { onData: () => undefined, onDrain: () => undefined, onEnd: () => undefined };
    await network.listen({ ...AT, port: 2 }, (stream) => stream.start(events), {
      required: true,
      keyFor: () => key,
      refused: () => undefined,
    });
    const host = await inner.connect({ ...AT, port: 2 }, { identity: "me", key });
    host.start(events);
    run();
    const ours = await network.connect(AT);
    ours.start(events);
    ours.destroy();
    run();
    capture.close();
    const { packets } = disk.read();
    expect(packets[0]?.comment).toMatch(/decrypted/);
    expect(JSON.stringify(packets.map(({ comment }) => comment))).not.toContain("7,7");
    // Both ends of the second connection are ours: recorded twice, once from each side.
    expect(connectionsOf({ packets, end: null }).map(({ ending }) => ending)).toContain("rst");
  });
});
