/**
 * Reads the machine that a command was given: one or more files of it, `-` for standard input. Shared
 * by every command that takes a machine.
 */

import { INPUT_FILE_BYTES_MAX, UsageError } from "../core/index.ts";
import { importMachine, type Machine } from "../machine/index.ts";
import type { Context } from "./context.ts";

/** Where the kernel shows standard input as a file. */
const STDIN_PATH = "/dev/stdin";

export async function loadMachine(context: Context, paths: readonly string[]): Promise<Machine> {
  if (paths.length === 0) {
    throw new UsageError("no-machine", "no machine was given", {
      remedy: "name a dump, for example the output of `lspci -vvv -xxxx`; - is standard input",
    });
  }
  const files = [];
  for (const path of paths) {
    const fromStdin = path === "-";
    const bytes = await context.files.readBytes(
      fromStdin ? STDIN_PATH : path,
      INPUT_FILE_BYTES_MAX,
    );
    files.push({ name: fromStdin ? "standard input" : path, bytes });
  }
  return importMachine(files);
}
