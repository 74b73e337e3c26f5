import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DEFAULT_COLUMNS, MemoryHost, realHost, StreamOutput } from "./process.ts";

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

describe("output", () => {
  let folder = "";
  const opened: number[] = [];
  const open = (name: string, flags: number): number => {
    const descriptor = openSync(join(folder, name), flags);
    opened.push(descriptor);
    return descriptor;
  };
  /** Stands for Node's stream, and says whether it was asked for. */
  const streamed = () => {
    const stream = new PassThrough();
    let count = 0;
    const make = () => {
      count++;
      return stream as unknown as NodeJS.WriteStream;
    };
    return { make, stream, count: () => count };
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "peerlane-output-"));
  });
  afterEach(() => {
    for (const descriptor of opened.splice(0)) closeSync(descriptor);
    rmSync(folder, { recursive: true, force: true });
  });

  it("goes to a file at once, without a stream", () => {
    const { make, count } = streamed();
    const output = new StreamOutput(open("file", constants.O_CREAT | constants.O_WRONLY), make);
    output.write("µs: one\n");
    output.write("two\n");
    expect(readFileSync(join(folder, "file"), "utf8")).toBe("µs: one\ntwo\n");
    expect([output.isTTY, output.columns, count()]).toEqual([false, DEFAULT_COLUMNS, 0]);
  });

  it("leaves to the stream what a full pipe does not take, in order", () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    const { make, stream } = streamed();
    const pipe = open("pipe", constants.O_RDWR | constants.O_NONBLOCK);
    const output = new StreamOutput(pipe, make);
    const text = Array.from({ length: 40_000 }, (_, i) => `line ${i}\n`).join("");
    output.write(text);
    output.write("end\n");
    const room = Buffer.alloc(text.length);
    const taken = room.subarray(0, readSync(pipe, room)).toString();
    const rest = String(stream.read());
    expect(taken.length).toBeGreaterThan(4095);
    expect(taken + rest === `${text}end\n`).toBe(true);
  });

  it("ends without a word when the reader of a pipe has gone", () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    const reader = openSync(join(folder, "pipe"), constants.O_RDONLY | constants.O_NONBLOCK);
    const { make, count } = streamed();
    const output = new StreamOutput(open("pipe", constants.O_WRONLY), make);
    closeSync(reader);
    const before = process.exitCode;
    output.write("nobody reads this");
    output.write("nor this");
    expect([process.exitCode, count()]).toEqual([before, 0]);
  });

  it.skipIf(process.platform !== "linux")("fails the command when a disk is full", () => {
    const script =
      'import { realHost } from "./src/platform/index.ts"; const host = realHost();' +
      'host.stdout.write("text"); host.setExitCode(0);';
    const args = ["-c", '"$0" --import tsx --input-type=module -e "$1" > /dev/full; echo $?'];
    const shell = [...args, process.execPath, script];
    const options = { encoding: "utf8", stdio: "pipe" } as const;
    expect(execFileSync("sh", shell, options)).toBe("1\n");
  });
});
