/**
 * What a command gets: the process, files, clock, and a way to print. Commands hold no logic: they
 * turn options into a call, and its report into text or JSON.
 */

import { ExitStatus, type Paint, PeerlaneError } from "../core/index.ts";
import type { Clock, Files, Host } from "../platform/index.ts";
import { makePaint } from "./paint.ts";

export interface Context {
  readonly host: Host;
  readonly files: Files;
  readonly clock: Clock;
  /** Colours for standard output; plain when it is no terminal or NO_COLOR is set. */
  readonly paint: Paint;
  /** Folder of the files that ship with Peerlane: scenarios, machines. */
  readonly shipped: string;
}

export function makeContext(host: Host, files: Files, clock: Clock, shipped: string): Context {
  const wanted = host.env("FORCE_COLOR") !== undefined;
  const refused = host.env("NO_COLOR") !== undefined || host.env("TERM") === "dumb";
  const paint = makePaint(!refused && (wanted || host.stdout.isTTY));
  return { host, files, clock, paint, shipped };
}

/** Columns of the terminal that reads standard output; none for a pipe or a file. */
export function terminalColumns({ host }: Context): number | undefined {
  return host.stdout.isTTY ? host.stdout.columns : undefined;
}

export function printJson(context: Context, value: unknown): void {
  context.host.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printText(context: Context, text: string): void {
  context.host.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

/** Output that is made in pieces, because the whole may be large. */
export function printPieces(context: Context, pieces: Iterable<string>): void {
  for (const piece of pieces) context.host.stdout.write(piece);
}

/** What was changed before the answer, above it; nothing when nothing was. */
export function printChanges(context: Context, changes: readonly string[]): void {
  for (const change of changes) printText(context, context.paint.warn(`what if: ${change}`));
  if (changes.length > 0) printText(context, "");
}

/**
 * What the reader should know besides the answer: on standard error, so that output stays clean.
 */
export function printNotes(context: Context, notes: readonly string[]): void {
  for (const note of notes) context.host.stderr.write(`peerlane: note: ${note}\n`);
}

/** Prints an error for people on standard error, or for programs on standard output. */
export function printError(context: Context, error: unknown, json: boolean): number {
  const known = error instanceof PeerlaneError ? error : null;
  if (json) {
    const body = known?.toJSON() ?? { code: "internal", message: String(error), place: null };
    printJson(context, { error: body });
  } else {
    const { stderr } = context.host;
    const named = known?.place === undefined || known.message.includes(known.place);
    const place = named ? "" : `${known?.place}: `;
    stderr.write(`peerlane: ${place}${known?.message ?? describeUnknown(error)}\n`);
    if (known?.remedy !== undefined) stderr.write(`  try: ${known.remedy}\n`);
  }
  return known?.exitStatus ?? ExitStatus.failure;
}

function describeUnknown(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `internal error, please report it\n${text}`;
}
