import { describe, expect, it } from "vitest";
import { DEFAULT_COLUMNS, MemoryHost, realHost } from "./process.ts";

describe("MemoryHost", () => {
  it("keeps what was written and the exit code", () => {
    const host = new MemoryHost({ args: ["verdict"], env: { A: "1", EMPTY: "" }, columns: 40 });
    host.stdout.write("one ");
    host.stdout.write("two");
    host.setExitCode(2);
    expect(host.stdout.text).toBe("one two");
    expect(host.stdout.columns).toBe(40);
    expect(host.exitCode).toBe(2);
    expect([host.env("A"), host.env("EMPTY"), host.env("B")]).toEqual(["1", undefined, undefined]);
  });

  it("interrupts those who still listen", () => {
    const host = new MemoryHost();
    let heard = 0;
    const remove = host.onInterrupt(() => heard++);
    host.interrupt();
    remove();
    host.interrupt();
    expect(heard).toBe(1);
  });
});

describe("realHost", () => {
  it("measures this process", () => {
    const host = realHost();
    const before = host.cpuTime();
    let sum = 0;
    for (let i = 0; i < 5e6; i++) sum += i % 7;
    expect(sum).toBeGreaterThan(0);
    const after = host.cpuTime();
    expect(after.userUs + after.systemUs).toBeGreaterThan(before.userUs + before.systemUs);
    expect(host.residentBytes()).toBeGreaterThan(1e6);
    if (!host.stdout.isTTY) expect(host.stdout.columns).toBe(DEFAULT_COLUMNS);
  });

  it("reads the environment and gives back its signal handlers", () => {
    const host = realHost();
    expect(host.env("PATH")).toBe(process.env.PATH);
    expect(host.env("PEERLANE_NO_SUCH_VARIABLE")).toBeUndefined();
    const before = process.listenerCount("SIGINT");
    const remove = host.onInterrupt(() => undefined);
    expect(process.listenerCount("SIGINT")).toBe(before + 1);
    remove();
    expect(process.listenerCount("SIGINT")).toBe(before);
  });
});
