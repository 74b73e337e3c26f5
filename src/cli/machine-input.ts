/**
 * Reads the machine that a command was given: files, folders, archives of it, `-` for standard
 * input. Shared by every command that takes a machine.
 */

import { UsageError } from "../core/index.ts";
import { type Machine, readMachine } from "../machine/index.ts";
import type { Files } from "../platform/index.ts";
import { type Context, printNotes } from "./context.ts";

/** The machine that stands in where none is given, in the folder of what ships. */
const DEFAULT_MACHINE = "scenarios/machines/hgx-h100-gpud.vvv.txt";
/** Where the kernel shows standard input as a file, and what messages call it. */
const STDIN_PATH = "/dev/stdin";
const STDIN_NAME = "standard input";
/** Warnings about a dump that are printed. */
const NOTES_MAX = 4;

export async function loadMachine(context: Context, paths: readonly string[]): Promise<Machine> {
  if (paths.length === 0) {
    throw new UsageError("no-machine", "no machine was given", {
      remedy: "name a dump, for example the output of `lspci -vvv -xxxx`; - is standard input",
    });
  }
  const names = paths.map((path) => (path === "-" ? STDIN_NAME : path));
  const machine = await readMachine(withStdin(context.files), names);
  // An answer from a thin dump may be an artifact of what is missing: it must not look like one.
  const { warnings } = machine;
  const more = warnings.length - NOTES_MAX;
  const rest = more > 0 ? [`and ${more} more (topo --json lists all)`] : [];
  printNotes(context, [...warnings.slice(0, NOTES_MAX), ...rest]);
  return machine;
}

/** {@link loadMachine}, and the machine that ships where none is given. */
export const loadMachineOrShipped = (
  context: Context,
  paths: readonly string[] = [],
): Promise<Machine> =>
  loadMachine(context, paths.length > 0 ? paths : [`${context.shipped}/${DEFAULT_MACHINE}`]);

/** The same files, and standard input under its name. */
export function withStdin(files: Files): Files {
  const real = (path: string): string => (path === STDIN_NAME ? STDIN_PATH : path);
  return {
    readBytes: (path, limit) => files.readBytes(real(path), limit),
    readText: (path, limit) => files.readText(real(path), limit),
    list: (path) => files.list(path),
    readLink: (path) => files.readLink(path),
    write: (path, data) => files.write(path, data),
    replace: (path, data) => files.replace(path, data),
  };
}
