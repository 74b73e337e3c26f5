/**
 * Which importer reads a file: a table, asked in order, by the beginning of the content and never
 * by the file's name. A new format is one entry here and one file beside this one.
 */

import { INPUT_FILE_BYTES_MAX, PeerlaneError } from "../../core/index.ts";
import { assembleMachine, type ImportOptions, type MachinePart } from "../assemble.ts";
import type { Machine } from "../snapshot.ts";
import { isHostText, parseHostText } from "./host-text.ts";
import { isHwlocXml, parseHwloc } from "./hwloc.ts";
import { isLspci, parseLspciPart } from "./lspci.ts";
import { isLspciTree, parseLspciTree } from "./lspci-tree.ts";
import { isNcclXml, parseNccl } from "./nccl.ts";
import { isUdevDb, parseUdevDb } from "./udev.ts";

/** A file as the caller has it: bytes, or text already decoded. */
export interface InputFile {
  readonly name: string;
  readonly bytes?: Uint8Array;
  readonly text?: string;
}

/** One format. */
export interface Importer {
  readonly name: string;
  /** What a user gives it, for error texts. */
  readonly gives: string;
  /** True when the beginning of a file (see {@link HEAD_CHARS}) is of this format. */
  detect(head: string): boolean;
  /** Throws {@link PeerlaneError} with file and line. */
  parse(text: string, file: string): MachinePart;
}

/** Characters of a file that `detect` sees. */
export const HEAD_CHARS = 65_536;

/** Asked in order: the most particular first. */
export const IMPORTERS: readonly Importer[] = [
  {
    name: "hwloc-xml",
    gives: "lstopo --filter io:all topology.xml (hwloc 1.x to 3.0)",
    detect: isHwlocXml,
    parse: parseHwloc,
  },
  {
    name: "nccl-xml",
    gives: "the file of NCCL_TOPO_DUMP_FILE",
    detect: isNcclXml,
    parse: parseNccl,
  },
  {
    name: "udev-db",
    gives: "udevadm info --export-db",
    detect: isUdevDb,
    parse: parseUdevDb,
  },
  {
    name: "lspci",
    gives: "lspci -nnvvvxxxx (or -vvv, -xxxx)",
    detect: isLspci,
    parse: parseLspciPart,
  },
  {
    name: "lspci-tree",
    gives: "lspci -tnnv",
    detect: isLspciTree,
    parse: parseLspciTree,
  },
  {
    name: "host-text",
    gives: "/proc/cpuinfo, /proc/cmdline, uname -a, /proc/iomem, dmesg",
    detect: isHostText,
    parse: parseHostText,
  },
];

/** Other outputs of known tools, and why they do not do. */
const NEAR_MISSES: readonly (readonly [RegExp, string, string])[] = [
  [
    /^\t\S*(?:GPU0|NIC0)\t/m,
    "this is nvidia-smi topo -m: it has no addresses, so no machine can be made of it",
    "give it beside a dump of the machine, to be compared with it",
  ],
  [
    /^<\?xml|^\s*<[a-z]/i,
    "this is XML, but neither a topology of hwloc nor one of NCCL",
    "write one with lstopo topology.xml",
  ],
  [
    /^lspci: |command not found/m,
    "this is an error message of lspci, not its output",
    "install pciutils and run lspci -nnvvvxxxx as root",
  ],
];

function textOf(file: InputFile): string {
  const size = file.bytes?.length ?? file.text?.length ?? 0;
  if (size > INPUT_FILE_BYTES_MAX) {
    throw new PeerlaneError(
      "too-large",
      `${size} bytes; at most ${INPUT_FILE_BYTES_MAX} are read`,
      {
        place: file.name,
        remedy: "give the dump alone, without the report around it",
      },
    );
  }
  if (file.text !== undefined) return file.text;
  return new TextDecoder("utf-8").decode(file.bytes ?? new Uint8Array(0));
}

function refuseUnknown(head: string, file: string): never {
  if (head.trim() === "") {
    throw new PeerlaneError("empty-file", "the file is empty", {
      place: file,
      remedy: "give the output of lspci -nnvvvxxxx, taken as root",
    });
  }
  const near = NEAR_MISSES.find(([pattern]) => pattern.test(head));
  throw new PeerlaneError("unknown-format", near?.[1] ?? "no importer knows this format", {
    place: `${file}:1`,
    remedy: near?.[2] ?? `give ${IMPORTERS.map(({ gives }) => gives).join("; or ")}`,
  });
}

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
