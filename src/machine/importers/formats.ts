/**
 * Which importer reads a file: a table, asked in order, by the beginning of the content and never
 * by the file's name. A new format is one entry here and one file beside this one.
 *
 * Importers of XML are loaded when a file of theirs is met: their parser is a package, which takes
 * longer to load than most dumps to read.
 */

import { INPUT_FILE_BYTES_MAX, PeerlaneError } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import { isHostText, parseHostText } from "./host-text.ts";
import { isLspci, parseLspciPart } from "./lspci.ts";
import { isLspciTree, parseLspciTree } from "./lspci-tree.ts";
import { isUdevDb, parseUdevDb } from "./udev.ts";
import { isHwlocXml, isNcclXml } from "./xml-formats.ts";

/** A file as the caller has it: bytes, or text already decoded. */
export interface InputFile {
  readonly name: string;
  readonly bytes?: Uint8Array;
  readonly text?: string;
}

/** Throws {@link PeerlaneError} with file and line. */
export type Parse = (text: string, file: string) => MachinePart;

/** One format. */
export interface Format {
  readonly name: string;
  /** What a user gives it, for error texts. */
  readonly gives: string;
  /** True when the beginning of a file (see {@link HEAD_CHARS}) is of this format. */
  detect(head: string): boolean;
  load(): Promise<Parse>;
}

/** Characters of a file that `detect` sees. */
export const HEAD_CHARS = 65_536;

/** Asked in order: the most particular first. */
export const FORMATS: readonly Format[] = [
  {
    name: "hwloc-xml",
    gives: "lstopo --filter io:all topology.xml (hwloc 1.x to 3.0)",
    detect: isHwlocXml,
    load: async () => (await import("./hwloc.ts")).parseHwloc,
  },
  {
    name: "nccl-xml",
    gives: "the file of NCCL_TOPO_DUMP_FILE",
    detect: isNcclXml,
    load: async () => (await import("./nccl.ts")).parseNccl,
  },
  {
    name: "udev-db",
    gives: "udevadm info --export-db",
    detect: isUdevDb,
    load: async () => parseUdevDb,
  },
  {
    name: "lspci",
    gives: "lspci -nnvvvxxxx (or -vvv, -xxxx)",
    detect: isLspci,
    load: async () => parseLspciPart,
  },
  {
    name: "lspci-tree",
    gives: "lspci -tnnv",
    detect: isLspciTree,
    load: async () => parseLspciTree,
  },
  {
    name: "host-text",
    gives: "/proc/cpuinfo, /proc/cmdline, uname -a, /proc/iomem, dmesg",
    detect: isHostText,
    load: async () => parseHostText,
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

/** The text of a file. Throws `too-large`. */
export function textOf(file: InputFile): string {
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

/** Says what the file is, as far as that can be told, and what to give instead. */
export function refuseUnknown(head: string, file: string): never {
  if (head.trim() === "") {
    throw new PeerlaneError("empty-file", "the file is empty", {
      place: file,
      remedy: "give the output of lspci -nnvvvxxxx, taken as root",
    });
  }
  const near = NEAR_MISSES.find(([pattern]) => pattern.test(head));
  throw new PeerlaneError("unknown-format", near?.[1] ?? "no importer knows this format", {
    place: `${file}:1`,
    remedy: near?.[2] ?? `give ${FORMATS.map(({ gives }) => gives).join("; or ")}`,
  });
}

/** Reads text with the importer that its content calls for. */
export async function importText(text: string, file: string): Promise<MachinePart> {
  const head = text.slice(0, HEAD_CHARS);
  const format = FORMATS.find(({ detect }) => detect(head));
  if (format === undefined) return refuseUnknown(head, file);
  return (await format.load())(text, file);
}
