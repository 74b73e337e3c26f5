import { describe, expect, it } from "vitest";
import { FakePort } from "../../../../testing/fake-port.ts";
import { Prng, WIRE_QUEUE_MAX } from "../../../core/index.ts";
import { parseGid } from "../../../spec/rdma/index.ts";
import { InProcessWire, type WireConditions } from "./in-process-wire.ts";
import { type WireEndpoint, WireRun } from "./wire.ts";

class Listener implements WireEndpoint {
  readonly psns: number[] = [];
  readonly payloads: number[][] = [];
  source = "";
  receive(run: WireRun): void {
    this.psns.push(run.psn);
    const bytes: number[] = [];
    for (let i = 0; i < run.fragmentCount; i++) {
      const { bytes: from, offset, length } = run.fragments[i];
      bytes.push(...from.subarray(offset, offset + length));
    }
    this.payloads.push(bytes);
    this.source = [...run.sourceGid].slice(12).join(".");
  }
}

function setup(conditions: WireConditions = {}) {
  const wire = new InProcessWire(conditions);
  const a = wire.attach(parseGid("10.0.0.1"), new Listener(), new FakePort());
  const port = new FakePort();
  const listener = new Listener();
  const b = wire.attach(parseGid("10.0.0.2"), listener, port);
  return { wire, a, b, listener, port, path: a.path(parseGid("10.0.0.2")), run: new WireRun() };
}

describe("in-process wire", () => {
  it("delivers inside the call, fragments as they are", () => {
    const { a, path, run, listener } = setup();
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6);
    run.addFragment(bytes, 1, 2);
    run.addFragment(bytes, 4, 1);
    run.psn = 9;
    a.send(path, run);
    expect(listener.psns).toEqual([9]);
    expect(listener.payloads).toEqual([[2, 3, 5]]);
    expect(listener.source).toBe("10.0.0.1");
  });

  it("with latency and bandwidth: later, in order, from its own copy", () => {
    const { a, path, run, listener, port } = setup({ latencyNs: 1000, gigabitsPerSecond: 8 });
    const bytes = new Uint8Array(918).fill(7);
    run.addFragment(bytes, 0, 918);
    for (let psn = 0; psn < 3; psn++) {
      run.psn = psn;
      a.send(path, run);
    }
    bytes.fill(0);
    expect(listener.psns).toEqual([]);
    // 918 bytes and 82 of overhead at 1 byte/ns: due at 2000, 3000, 4000.
    port.advance(1999);
    expect(listener.psns).toEqual([]);
    port.advance(1);
    expect(listener.psns).toEqual([0]);
    port.advance(2000);
    expect(listener.psns).toEqual([0, 1, 2]);
    expect(listener.payloads[2]).toEqual(new Array(918).fill(7));
  });

  it("loses what it is told to, and counts", () => {
    const { a, path, run, listener, wire } = setup({ lose: (r) => r.psn % 2 === 1 });
    for (let psn = 0; psn < 6; psn++) {
      run.psn = psn;
      a.send(path, run);
    }
    expect(listener.psns).toEqual([0, 2, 4]);
    expect(a.inspect()).toMatchObject({ runsSent: 6, runsLost: 3 });
    expect(wire.inspect()).toMatchObject({ runsLostByConditions: 3 });
  });

  it("loses by the seed", () => {
    const lost = (seed: number): number[] => {
      const { a, path, run, listener } = setup({ lossProbability: 0.5, prng: new Prng(seed) });
      for (run.psn = 0; run.psn < 100; run.psn++) a.send(path, run);
      return listener.psns;
    };
    expect(lost(1)).toEqual(lost(1));
    expect(lost(1)).not.toEqual(lost(2));
    expect(() => new InProcessWire({ lossProbability: 0.1 })).toThrow("seeded generator");
  });

  it("drops what its queue has no room for", () => {
    const { a, path, run, listener, port } = setup({ latencyNs: 10 });
    for (let i = 0; i < WIRE_QUEUE_MAX + 5; i++) a.send(path, run);
    port.advance(10);
    expect(listener.psns).toHaveLength(WIRE_QUEUE_MAX);
    expect(a.inspect()).toMatchObject({ runsLost: 5 });
  });

  it("loses what goes to nobody, finds who comes later and who moved", () => {
    const { wire, a, run, b } = setup();
    const path = a.path(parseGid("10.0.0.3"));
    a.send(path, run);
    expect(a.inspect()).toMatchObject({ runsSent: 1, runsLost: 1 });
    const late = new Listener();
    const port = wire.attach(parseGid("10.0.0.3"), late, new FakePort());
    a.send(path, run);
    expect(late.psns).toHaveLength(1);
    port.detach();
    a.send(path, run);
    const next = new Listener();
    wire.attach(parseGid("10.0.0.3"), next, new FakePort());
    a.send(path, run);
    expect([late.psns.length, next.psns.length]).toEqual([1, 1]);
    expect(() => wire.attach(b.gid, new Listener(), new FakePort())).toThrow("10.0.0.2");
  });

  it("loses everything while a cable is out", () => {
    const { wire, a, path, run, listener } = setup();
    wire.setLink("10.0.0.1", false);
    a.send(path, run);
    wire.setLink("10.0.0.1", true);
    a.send(path, run);
    expect(listener.psns).toHaveLength(1);
    expect(() => wire.setLink("10.9.9.9", false)).toThrow("no port has address 10.9.9.9");
  });
});

describe("run", () => {
  it("is cut to its first bytes across fragments", () => {
    const run = new WireRun();
    const bytes = new Uint8Array(100);
    for (const length of [10, 20, 30]) run.addFragment(bytes, 0, length);
    run.truncate(25);
    expect(run.payloadBytes).toBe(25);
    expect(run.fragments.slice(0, run.fragmentCount).map(({ length }) => length)).toEqual([10, 15]);
    run.truncate(10);
    expect(run.fragmentCount).toBe(1);
  });
});
