import { describe, expect, it } from "vitest";
import { EVENTS, Event } from "./events.ts";
import { Tracer } from "./tracer.ts";

describe("Tracer", () => {
  it("records nothing while off", () => {
    const tracer = new Tracer(() => 1);
    tracer.emit(Event.dmaRead, 1, 2, 3);
    expect([...tracer.records()]).toEqual([]);
    expect(tracer.counters[Event.dmaRead]).toBe(0);
  });

  it("keeps the newest records and counts all", () => {
    let time = 0;
    const tracer = new Tracer(() => ++time, 2);
    tracer.on = true;
    for (let i = 0; i < 3; i++) tracer.emit(Event.dmaWrite, i, 0x1000, 64);
    expect([...tracer.records()]).toEqual([
      { timeNs: 2, event: Event.dmaWrite, args: [1, 0x1000, 64] },
      { timeNs: 3, event: Event.dmaWrite, args: [2, 0x1000, 64] },
    ]);
    expect(tracer.overwritten).toBe(1);
    expect(tracer.counters[Event.dmaWrite]).toBe(3);
  });
});

describe("event list", () => {
  it("has one definition per event number, with unique names", () => {
    expect(EVENTS.length).toBe(Object.keys(Event).length);
    expect(new Set(EVENTS.map((event) => event.name)).size).toBe(EVENTS.length);
    for (const event of EVENTS) expect(event.args.length).toBeLessThanOrEqual(4);
  });
});
