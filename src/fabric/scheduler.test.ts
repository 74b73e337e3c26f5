import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventHeap } from "./event-heap.hot.ts";
import { type Runnable, Scheduler } from "./index.ts";

class Task implements Runnable {
  isReady = false;
  readonly log: string[];
  readonly name: string;
  readonly onRun: () => void;
  constructor(log: string[], name: string, onRun: () => void = () => {}) {
    this.log = log;
    this.name = name;
    this.onRun = onRun;
  }
  run(): void {
    this.log.push(this.name);
    this.onRun();
  }
}

const drain = (scheduler: Scheduler): void => {
  for (let i = 0; i < 1000 && scheduler.poll() > 0; i++);
};

describe("Scheduler", () => {
  it("runs each waked model once, in order, and what wakes meanwhile in the next poll", () => {
    const scheduler = new Scheduler();
    const log: string[] = [];
    const a: Task = new Task(log, "a", () => log.length < 3 && scheduler.wake(a));
    const b = new Task(log, "b");
    scheduler.wake(a);
    scheduler.wake(b);
    scheduler.wake(a);
    expect(scheduler.poll()).toBe(2);
    expect(log).toEqual(["a", "b"]);
    drain(scheduler);
    expect(log).toEqual(["a", "b", "a"]);
    expect(scheduler.poll()).toBe(0);
  });

  it("moves time to the next event only when nothing is ready, and is busy until the last", () => {
    const scheduler = new Scheduler();
    const log: string[] = [];
    const timer = { timer: (token: number) => void log.push(`${token}@${scheduler.nowNs()}`) };
    scheduler.after(100, timer, 1);
    scheduler.after(50, timer, 2);
    scheduler.wake(new Task(log, "task"));
    expect(scheduler.poll()).toBe(1);
    expect(log).toEqual(["task"]);
    expect(scheduler.poll()).toBeGreaterThan(0);
    expect(scheduler.nowNs()).toBe(0);
    drain(scheduler);
    expect(log).toEqual(["task", "2@50", "1@100"]);
  });

  it("sleep lets exactly that time pass, with all that happens meanwhile", () => {
    const scheduler = new Scheduler();
    const log: string[] = [];
    const timer = { timer: (token: number) => void log.push(`${token}@${scheduler.nowNs()}`) };
    scheduler.after(10, timer, 1);
    scheduler.after(30, timer, 2);
    let between = 0;
    scheduler.sleep(20, () => between++);
    expect(scheduler.nowNs()).toBe(20);
    expect(log).toEqual(["1@10"]);
    expect(between).toBeGreaterThan(0);
    scheduler.sleep(10, () => {});
    expect(log).toEqual(["1@10", "2@30"]);
  });

  it("many ready models keep their order while the ring grows", () => {
    const scheduler = new Scheduler();
    const log: string[] = [];
    const names = Array.from({ length: 500 }, (_, i) => `t${i}`);
    for (const name of names) scheduler.wake(new Task(log, name));
    drain(scheduler);
    expect(log).toEqual(names);
  });
});

describe("EventHeap", () => {
  it("gives events by time, and of one time in the order they came", () => {
    const client = { timer() {} };
    fc.assert(
      fc.property(fc.array(fc.nat(20), { maxLength: 300 }), (times) => {
        const heap = new EventHeap();
        for (const [i, time] of times.entries()) heap.push(time, client, i);
        const seen = times.map(() => {
          const { time, token } = heap.pop();
          return [time, token] as const;
        });
        const sorted = [...times.entries()]
          .map(([i, time]) => [time, i] as const)
          .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
        expect(seen).toEqual(sorted);
        expect(heap.length).toBe(0);
      }),
      { seed: 1, numRuns: 50 },
    );
  });
});
