/**
 * Files that tests read: the machines shipped with the project, and the larger collection of dumps
 * and recorded kernels beside the repository, which is not part of it. A test that needs the latter
 * skips loudly where it is absent.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type InputFile, importMachine, type Machine } from "../src/machine/index.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const CANDIDATES = [join(dirname(ROOT), "shared"), "/work/shared"];

/** Folder of the collection, or null when it is not here. */
export const COLLECTION = CANDIDATES.find((folder) => existsSync(join(folder, "corpus"))) ?? null;

/** Why a test is skipped. */
export const NO_COLLECTION =
  "the collection of dumps (shared/corpus, shared/truth) is not beside the repository";

if (COLLECTION === null) console.warn(`testing/recorded.ts: WARNING: ${NO_COLLECTION}`);

/** Full names of the files in a folder of the collection; none when it is absent. */
export function collected(folder: string): { readonly name: string; readonly path: string }[] {
  if (COLLECTION === null) return [];
  const full = join(COLLECTION, folder);
  return readdirSync(full)
    .sort()
    .map((name) => ({ name, path: join(full, name) }));
}

export function readText(path: string): string {
  return readFileSync(path, "utf8");
}

/** Path of a machine's file shipped in scenarios/machines. */
export function shippedPath(name: string): string {
  return join(ROOT, "scenarios", "machines", name);
}

export function inputFile(path: string): InputFile {
  return { name: path.split("/").slice(-2).join("/"), bytes: readFileSync(path) };
}

/** A machine recorded with its lspci.txt and machine.txt. */
export function recordedMachine(folder: string): Machine {
  return importMachine([
    inputFile(join(folder, "lspci.txt")),
    inputFile(join(folder, "machine.txt")),
  ]);
}

/** One of the machines in scenarios/machines: a folder, or a single dump. */
export function shippedMachine(name: string): Machine {
  const path = shippedPath(name);
  return name.endsWith(".txt") ? importMachine([inputFile(path)]) : recordedMachine(path);
}
