/**
 * This process, as the command line sees it: where output goes, how wide it is, what was asked for,
 * what it has cost. A command takes a {@link Host}; a test gives it a {@link MemoryHost} and reads
 * what was written.
 */
import { fstatSync, writeSync } from "node:fs";
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
  /**
   * The same for a command that leaves nothing running: ends the process now, rather than after the
   * engine has taken its heap apart, where no output is pending.
   */
  end(code: number): void;
  /** Calls `fn` when the user interrupts (Ctrl-C) or the system asks to stop. Returns a remover. */
  onInterrupt(fn: () => void): () => void;
}

export const DEFAULT_COLUMNS = 100;

/**
 * Standard output or error. Text is written at once: Node's stream for it takes some milliseconds
 * to make, as long as the whole of a short command. The stream is for what a descriptor cannot
 * tell (the width of a terminal), and for a reader that does not keep up with a pipe that does not
 * block: then it waits.
 */
export class StreamOutput implements Output {
  readonly #descriptor: number;
  readonly #open: () => NodeJS.WriteStream;
  #opened: NodeJS.WriteStream | undefined;
  #isClosed = false;

  constructor(descriptor: number, open: () => NodeJS.WriteStream) {
    this.#descriptor = descriptor;
    this.#open = open;
  }

  get #stream(): NodeJS.WriteStream {
    this.#opened ??= this.#open().on("error", (error) => this.#fail(error));
    return this.#opened;
  }

  write(text: string): void {
    if (this.#isClosed) return;
    if (this.#opened !== undefined) {
      this.#opened.write(text);
      return;
    }
    const bytes = Buffer.from(text);
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#descriptor, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") this.#stream.write(bytes.subarray(done));
      else this.#fail(error as NodeJS.ErrnoException);
    }
  }

  /** True where the stream holds text that its reader has not taken. */
  get isPending(): boolean {
    return this.#opened !== undefined && this.#opened.writableLength > 0;
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#isClosed = true;
    // `peerlane ... | head` closes the pipe early: that is the reader's choice, not an error.
    if (error.code === "EPIPE") return;
    process.exitCode = 1;
    // Were it standard error itself that fails, nobody would be left to tell.
    if (this.#descriptor === 2) return;
    process.stderr.write(`peerlane: cannot write the output: ${error.message}\n`);
  }

  get isTTY(): boolean {
    // Terminals are such devices; files and pipes are known without a stream.
    return fstatSync(this.#descriptor).isCharacterDevice() && this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.isTTY ? (this.#stream.columns ?? DEFAULT_COLUMNS) : DEFAULT_COLUMNS;
  }
}

/** The real process. A function, so that importing this file has no effect on the streams. */
export function realHost(): Host {
  const stdout = new StreamOutput(1, () => process.stdout);
  const stderr = new StreamOutput(2, () => process.stderr);
  // Output that could not be written has set a status already: success does not undo that.
  const setExitCode = (code: number): void => {
    process.exitCode ||= code;
  };
  return {
    stdout,
    stderr,
    args: process.argv.slice(2),
    env: (name) => process.env[name] || undefined,
    cwd: () => process.cwd(),
    cpuTime: () => {
      const { user, system } = process.cpuUsage();
      return { userUs: user, systemUs: system };
    },
    residentBytes: () => process.memoryUsage.rss(),
    setExitCode,
    end: (code) => {
      setExitCode(code);
      if (!stdout.isPending && !stderr.isPending) process.exit();
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

  end(code: number): void {
    this.setExitCode(code);
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
