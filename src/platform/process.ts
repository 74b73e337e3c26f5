/**
 * This process, as the command line sees it: where output goes, how wide it is, what was asked for,
 * what it has cost. A command takes a {@link Host}; a test gives it a {@link MemoryHost} and reads
 * what was written.
 */
import process from "node:process";

export interface Output {
  write(text: string): void;
  /** True when a person watches: colour and progress make sense. */
  readonly isTTY: boolean;
  /** Width in characters; {@link DEFAULT_COLUMNS} when it is not a terminal. */
  readonly columns: number;
}

/** Time this process has spent on a CPU, in microseconds. */
export interface CpuTime {
  readonly userUs: number;
  readonly systemUs: number;
}

export interface Host {
  readonly stdout: Output;
  readonly stderr: Output;
  /** Arguments after the name of the program. */
  readonly args: readonly string[];
  /** `undefined` for a variable that is unset or empty: nobody means the empty string. */
  env(name: string): string | undefined;
  cwd(): string;
  cpuTime(): CpuTime;
  /** Resident memory of this process, bytes. */
  residentBytes(): number;
  /** Status the process will end with, once its work is done. Never cuts off pending output. */
  setExitCode(code: number): void;
  /** Calls `fn` when the user interrupts (Ctrl-C) or the system asks to stop. Returns a remover. */
  onInterrupt(fn: () => void): () => void;
}

export const DEFAULT_COLUMNS = 100;

class StreamOutput implements Output {
  readonly #open: () => NodeJS.WriteStream;
  #opened: NodeJS.WriteStream | undefined;

  /** `open`: called when the stream is first used, since opening one takes milliseconds. */
  constructor(open: () => NodeJS.WriteStream) {
    this.#open = open;
  }

  get #stream(): NodeJS.WriteStream {
    if (this.#opened !== undefined) return this.#opened;
    // `peerlane ... | head` closes the pipe early: that is the reader's choice, not an error.
    this.#opened = this.#open().on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") return;
      process.stderr.write(`peerlane: cannot write the output: ${error.message}\n`);
      process.exitCode = 1;
    });
    return this.#opened;
  }

  write(text: string): void {
    this.#stream.write(text);
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.#stream.columns ?? DEFAULT_COLUMNS;
  }
}

/** The real process. A function, so that importing this file has no effect on the streams. */
export function realHost(): Host {
  return {
    stdout: new StreamOutput(() => process.stdout),
    stderr: new StreamOutput(() => process.stderr),
    args: process.argv.slice(2),
    env: (name) => process.env[name] || undefined,
    cwd: () => process.cwd(),
    cpuTime: () => {
      const { user, system } = process.cpuUsage();
      return { userUs: user, systemUs: system };
    },
    residentBytes: () => process.memoryUsage.rss(),
    setExitCode: (code) => {
      process.exitCode = code;
    },
    onInterrupt: (fn) => {
      process.on("SIGINT", fn).on("SIGTERM", fn);
      return () => {
        process.off("SIGINT", fn).off("SIGTERM", fn);
      };
    },
  };
}

/** An output that remembers. */
export class MemoryOutput implements Output {
  text = "";
  readonly isTTY: boolean;
  readonly columns: number;

  constructor(isTTY = false, columns = DEFAULT_COLUMNS) {
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): void {
    this.text += text;
  }
}

export interface MemoryHostOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** A host for tests: nothing it is told leaves it. */
export class MemoryHost implements Host {
  readonly stdout: MemoryOutput;
  readonly stderr: MemoryOutput;
  readonly args: readonly string[];
  exitCode = 0;
  cpu: CpuTime = { userUs: 0, systemUs: 0 };
  resident = 0;
  readonly #env: Readonly<Record<string, string>>;
  readonly #cwd: string;
  readonly #interrupts = new Set<() => void>();

  constructor(options: MemoryHostOptions = {}) {
    this.stdout = new MemoryOutput(options.isTTY, options.columns);
    this.stderr = new MemoryOutput(options.isTTY, options.columns);
    this.args = options.args ?? [];
    this.#env = options.env ?? {};
    this.#cwd = options.cwd ?? "/";
  }

  env(name: string): string | undefined {
    return this.#env[name] || undefined;
  }

  cwd(): string {
    return this.#cwd;
  }

  cpuTime(): CpuTime {
    return this.cpu;
  }

  residentBytes(): number {
    return this.resident;
  }

  setExitCode(code: number): void {
    this.exitCode = code;
  }

  onInterrupt(fn: () => void): () => void {
    this.#interrupts.add(fn);
    return () => this.#interrupts.delete(fn);
  }

  /** Acts as Ctrl-C. */
  interrupt(): void {
    for (const fn of [...this.#interrupts]) fn();
  }
}
