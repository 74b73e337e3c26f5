/**
 * The one error class of the control plane. Every failure that a person can meet carries a stable
 * code, the place (file and line, function, register), and a remedy. The data plane never throws:
 * it returns integer statuses (see the `*.hot.ts` files).
 */

/** What a {@link PeerlaneError} may carry besides its message. */
export interface ErrorContext {
  /** Where: `dump.txt:812`, `0000:18:00.0 BAR0`, `nvmet-rdma.yaml:14:7`. */
  readonly place?: string | undefined;
  /** What the reader can do about it. One imperative sentence. */
  readonly remedy?: string | undefined;
  /** Facts for programs (`--json`). Plain data only. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  readonly cause?: unknown;
}

/** Exit statuses of every command. */
export const ExitStatus = {
  ok: 0,
  failure: 1,
  usage: 2,
} as const;

export class PeerlaneError extends Error {
  override readonly name: string = "PeerlaneError";
  /** Stable, machine-readable: `dump-truncated`, `no-route`, `lease-revoked`. */
  readonly code: string;
  readonly place: string | undefined;
  readonly remedy: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, context: ErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.code = code;
    this.place = context.place;
    this.remedy = context.remedy;
    this.details = context.details ?? {};
  }

  /** Exit status a command ends with when this error reaches it. */
  get exitStatus(): number {
    return ExitStatus.failure;
  }

  /** Plain data for `--json`. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      place: this.place ?? null,
      remedy: this.remedy ?? null,
      details: this.details,
    };
  }
}

/** The caller asked for something that makes no sense: bad option, bad BDF, bad scenario file. */
export class UsageError extends PeerlaneError {
  override readonly name = "UsageError";
  override get exitStatus(): number {
    return ExitStatus.usage;
  }
}
