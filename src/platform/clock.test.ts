import { describe, expect, it } from "vitest";
import { ManualClock, realClock } from "./clock.ts";

describe("ManualClock", () => {
  it("moves only when told to", () => {
    const clock = new ManualClock(1_500, 10);
    expect([clock.nowNs(), clock.nowUs(), clock.wallMs()]).toEqual([1_500, 1, 10]);
    clock.advanceUs(2_000);
    expect([clock.nowNs(), clock.nowUs(), clock.wallMs()]).toEqual([2_001_500, 2_001, 12]);
  });

  it("fires timers in order of due time, then of creation, each at its own time", () => {
    const clock = new ManualClock();
    const seen: string[] = [];
    const note = (name: string) => () => seen.push(`${name}@${clock.nowUs()}`);
    clock.after(20, note("late"));
    clock.after(10, note("first"));
    clock.after(10, note("second"));
    clock.advanceUs(15);
    expect(seen).toEqual(["first@10", "second@10"]);
    clock.advanceUs(15);
    expect(seen.at(-1)).toBe("late@20");
    expect(clock.nowUs()).toBe(30);
  });

  it("fires a timer that a timer made, when it falls due in the same step", () => {
    const clock = new ManualClock();
    const seen: number[] = [];
    clock.after(5, () => clock.after(5, () => seen.push(clock.nowUs())));
    clock.advanceUs(10);
    expect(seen).toEqual([10]);
  });

  it("forgets a cancelled timer", () => {
    const clock = new ManualClock();
    const cancel = clock.after(1, () => expect.unreachable("cancelled"));
    cancel();
    clock.advanceUs(5);
    expect(clock.pendingTimers).toBe(0);
  });

  it("wakes sleepers", async () => {
    const clock = new ManualClock();
    const slept = clock.sleep(100);
    clock.advanceUs(100);
    await expect(slept).resolves.toBeUndefined();
  });
});

describe("realClock", () => {
  it("never goes back, and counts whole units", () => {
    let previous = realClock.nowNs();
    for (let i = 0; i < 1_000; i++) {
      const now = realClock.nowNs();
      expect(now).toBeGreaterThanOrEqual(previous);
      previous = now;
    }
    expect(Number.isSafeInteger(previous)).toBe(true);
    expect(Number.isSafeInteger(realClock.nowUs())).toBe(true);
  });

  it("sleeps at least as long as asked", async () => {
    const start = realClock.nowUs();
    await realClock.sleep(1_200);
    expect(realClock.nowUs() - start).toBeGreaterThanOrEqual(1_000);
  });
});
