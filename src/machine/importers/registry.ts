/**
 * The importers as one table of functions that return at once, for whoever has all files in memory:
 * every format of formats.ts with its parser loaded.
 */

import { assembleMachine, type ImportOptions, type MachinePart } from "../assemble.ts";
import type { Machine } from "../snapshot.ts";
import {
  FORMATS,
  type Format,
  HEAD_CHARS,
  type InputFile,
  type Parse,
  refuseUnknown,
  textOf,
} from "./formats.ts";
import { parseHostText } from "./host-text.ts";
import { parseHwloc } from "./hwloc.ts";
import { parseLspciPart } from "./lspci.ts";
import { parseLspciTree } from "./lspci-tree.ts";
import { parseNccl } from "./nccl.ts";
import { parseUdevDb } from "./udev.ts";

export type { InputFile } from "./formats.ts";

/** One format, ready. */
export interface Importer extends Format {
  readonly parse: Parse;
}

const PARSERS: Readonly<Record<string, Parse>> = {
  "hwloc-xml": parseHwloc,
  "nccl-xml": parseNccl,
  "udev-db": parseUdevDb,
  lspci: parseLspciPart,
  "lspci-tree": parseLspciTree,
  "host-text": parseHostText,
};

/** Asked in order: the most particular first. */
export const IMPORTERS: readonly Importer[] = FORMATS.map((format) => ({
  ...format,
  parse: PARSERS[format.name],
}));

/** Reads one file with the importer that its content calls for. */
export function importFile(file: InputFile): MachinePart {
  const text = textOf(file);
  const head = text.slice(0, HEAD_CHARS);
  const importer = IMPORTERS.find(({ detect }) => detect(head));
  return importer === undefined ? refuseUnknown(head, file.name) : importer.parse(text, file.name);
}

/**
 * Reads files of one machine and joins what they tell: an lspci dump, or one of hex and one of
 * text, and what there is of the host.
 * @throws PeerlaneError with file, line, reason and remedy; see {@link Importer} and
 * {@link assembleMachine}
 */
export function importMachine(files: readonly InputFile[], options: ImportOptions = {}): Machine {
  return assembleMachine(files.map(importFile), options);
}

/** Reads one lspci dump. */
export function parseLspci(text: string, file: string, options: ImportOptions = {}): Machine {
  return assembleMachine([parseLspciPart(text, file)], options);
}
