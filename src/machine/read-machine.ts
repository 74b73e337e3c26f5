/**
 * Everything that a user may give as "the machine": dumps, packed dumps, archives and folders of
 * them, bug reports, a copy of /sys, /sys itself, a machine.json; one or several. Finds out by
 * content what each is, takes it apart, and joins what it tells.
 *
 * Invariants: nothing is unpacked to disk; what comes out of an archive is bounded
 * (UNPACKED_BYTES_MAX); archives in archives end at ARCHIVE_DEPTH_MAX. A file that is no dump is an
 * error when it was named by the user, and is skipped inside an archive.
 */

import {
  ARCHIVE_DEPTH_MAX,
  DUMPS_PER_INPUT_MAX,
  INPUT_FILE_BYTES_MAX,
  PeerlaneError,
  tryParseBdf,
  UNPACKED_BYTES_MAX,
} from "../core/index.ts";
import {
  bunzip2,
  type DirectoryEntry,
  type Files,
  gunzip,
  MemoryFiles,
  packingOf,
  textFrom,
  untar,
  unxz,
  unzstd,
} from "../platform/index.ts";
import { assembleMachine, type ImportOptions, type MachinePart } from "./assemble.ts";
import { parseBootLog } from "./host-facts.ts";
import { readHostFiles } from "./host-files.ts";
import { HEAD_CHARS, type InputFile, importText } from "./importers/formats.ts";
import { isLspci, parseLspciPart } from "./importers/lspci.ts";
import { isLspciTree, parseLspciTree } from "./importers/lspci-tree.ts";
import { sparseFunction } from "./importers/sparse.ts";
import { readSysfs } from "./importers/sysfs.ts";
import { SysfsReader } from "./importers/sysfs-function.ts";
import { isBugReport, plainLspci, splitBugReport } from "./importers/text-sections.ts";
import { isMachineJson } from "./machine-json-write.ts";
import { readSystemPciIds, withNames } from "./pci-ids.ts";
import { isUnknown, type Machine, type Source } from "./snapshot.ts";

/**
 * Reads the machine that `paths` describe, each a file or a folder.
 * @throws PeerlaneError of the files, of an importer (with file and line), or of joining
 */
export async function readMachine(
  files: Files,
  paths: readonly string[],
  options: ImportOptions = {},
): Promise<Machine> {
  const parts: MachinePart[] = [];
  const whole: Machine[] = [];
  for (const path of paths) {
    const bytes = await bytesOf(files, path);
    const found =
      bytes === null
        ? await partsOfTree(files, path, { file: path, format: "folder" })
        : await partsOfBytes({ name: path, bytes }, 0);
    if (found.machine !== null) whole.push(found.machine);
    parts.push(...found.parts);
  }
  const machine = joined(parts, whole, options);
  return withNames(machine, await readSystemPciIds(files, machine.functions));
}

/**
 * The same for content that is in memory already. Names of devices stay as the content has them.
 */
export async function importInputs(
  inputs: readonly InputFile[],
  options: ImportOptions = {},
): Promise<Machine> {
  const parts: MachinePart[] = [];
  const whole: Machine[] = [];
  for (const input of inputs) {
    const bytes = input.bytes ?? new TextEncoder().encode(input.text ?? "");
    const found = await partsOfBytes({ name: input.name, bytes }, 0);
    if (found.machine !== null) whole.push(found.machine);
    parts.push(...found.parts);
  }
  return joined(parts, whole, options);
}

/** What one input told: parts, or (a machine.json) a machine, which is also one part. */
interface Found {
  readonly parts: readonly MachinePart[];
  readonly machine: Machine | null;
}

const partsOnly = (...parts: readonly MachinePart[]): Found => ({ parts, machine: null });

interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Null for a folder. */
async function bytesOf(files: Files, path: string): Promise<Uint8Array | null> {
  try {
    return await files.readBytes(path, INPUT_FILE_BYTES_MAX);
  } catch (error) {
    if (error instanceof PeerlaneError && error.code === "is-a-folder") return null;
    throw error;
  }
}

async function partsOfBytes({ name, bytes }: NamedBytes, depth: number): Promise<Found> {
  if (depth > ARCHIVE_DEPTH_MAX) {
    throw new PeerlaneError("archive-too-deep", "archives are packed in archives too often", {
      place: name,
      remedy: "Unpack it by hand and give the file inside.",
    });
  }
  switch (packingOf(bytes)) {
    case "gzip":
      return partsOfBytes({ name, bytes: gunzip(bytes, UNPACKED_BYTES_MAX, name) }, depth + 1);
    case "bzip2":
      return partsOfBytes({ name, bytes: bunzip2(bytes, UNPACKED_BYTES_MAX, name) }, depth + 1);
    case "tar": {
      const tar = await untar(bytes, name);
      const files = MemoryFiles.fromTar(tar.entries);
      const found = await partsOfTree(files, await archiveRoot(files), {
        file: name,
        format: "tar",
      });
      return tar.dropped === 0 ? found : withWarning(found, droppedEntries(name, tar.dropped));
    }
    case "xz":
      return partsOfBytes({ name, bytes: await unxz(bytes, UNPACKED_BYTES_MAX, name) }, depth + 1);
    case "zstd": {
      const plain = unzstd(bytes, UNPACKED_BYTES_MAX, name);
      if (plain === null) throw packed(name, "zstd", "zstd -dk");
      return partsOfBytes({ name, bytes: plain }, depth + 1);
    }
    default:
      return partsOfText(decodeText(bytes, name), name);
  }
}

function packed(name: string, packing: string, command: string): PeerlaneError {
  return new PeerlaneError(
    "packing-unsupported",
    `it is packed with ${packing}, which this Node does not read`,
    {
      place: name,
      remedy: `Unpack it first: ${command} ${name}`,
      details: { packing },
    },
  );
}

const droppedEntries = (name: string, count: number): string =>
  `${name}: ${count} entries of the archive are neither files nor links, or leave it: left out`;

function withWarning(found: Found, warning: string): Found {
  const [first, ...rest] = found.parts;
  if (first === undefined) return found;
  return { ...found, parts: [{ ...first, warnings: [...first.warnings, warning] }, ...rest] };
}

/** PowerShell writes UTF-16; everything else that is text is UTF-8. */
function decodeText(bytes: Uint8Array, name: string): string {
  const isUtf16 = bytes[0] === 0xff && bytes[1] === 0xfe;
  const text = isUtf16 ? new TextDecoder("utf-16le").decode(bytes) : textFrom(bytes);
  // A log cut off by a crash may end in zeros; a binary begins with them.
  if (text.slice(0, 4096).includes("\0")) {
    throw new PeerlaneError("not-text", "it is a binary file of no format that is known", {
      place: name,
      remedy: "Give a dump: the output of lspci -nnvvvxxxx, taken as root, is best.",
    });
  }
  return text;
}

async function partsOfText(text: string, name: string): Promise<Found> {
  const head = text.slice(0, HEAD_CHARS);
  if (isMachineJson(head)) {
    const { parseMachineJson } = await import("./machine-json.ts");
    const machine = parseMachineJson(text, name);
    return { parts: [partOf(machine)], machine };
  }
  if (isBugReport(head)) return partsOnly(...(await partsOfBugReport(text, name)));
  const plain = plainLspci(text);
  // A tree and a list in one file are two sources: the tree has bus numbers, the list has classes.
  if (isLspciTree(head) && isLspci(plain.slice(0, HEAD_CHARS))) {
    return partsOnly(withoutNoise(parseLspciPart(plain, name)), parseLspciTree(text, name));
  }
  return partsOnly(await importText(plain, name));
}

/** Lines of the other output in the same file are no reason to warn. */
function withoutNoise(part: MachinePart): MachinePart {
  return {
    ...part,
    warnings: part.warnings.filter((warning) => !warning.includes("belong to no function")),
  };
}

async function partsOfBugReport(text: string, name: string): Promise<MachinePart[]> {
  const { commands, files } = splitBugReport(text);
  const parts: MachinePart[] = [];
  for (const { command, text: output } of commands) {
    const place = `${name} (${command.split("/").at(-1)})`;
    const plain = plainLspci(output);
    const head = plain.slice(0, HEAD_CHARS);
    if (isLspciTree(head)) parts.push(parseLspciTree(plain, place));
    else if (isLspci(head)) parts.push(parseLspciPart(plain, place));
  }
  const memory = new MemoryFiles();
  for (const [path, content] of files) memory.addFile(path, content);
  parts.push(await hostPart(memory, "", { file: name, format: "nvidia-bug-report" }));
  parts.push(...numaPart(files, name));
  return parts;
}

/** The report lists the NUMA node of each GPU in a file of its own. */
function numaPart(files: ReadonlyMap<string, string>, name: string): MachinePart[] {
  const functions = [];
  for (const [path, content] of files) {
    const bdf = tryParseBdf(/\/([0-9a-f:.]+)\/numa_node$/.exec(path)?.[1] ?? "");
    const node = Number.parseInt(content, 10);
    if (bdf === null || !Number.isInteger(node)) continue;
    const numaNode = node < 0 ? null : node;
    functions.push(sparseFunction({ bdf, numaNode }, "a file of sysfs tells the NUMA node only"));
  }
  if (functions.length === 0) return [];
  const source = { file: name, format: "nvidia-bug-report" };
  return [{ source, functions, hostBridges: null, host: {}, rootBuses: [], warnings: [] }];
}

/** Facts of the host from /proc, /boot and boot logs below `root`. */
async function hostPart(files: Files, root: string, source: Source): Promise<MachinePart> {
  const reader = new SysfsReader(files);
  const { host, rootBuses, isIomemHidden } = await readHostFiles(reader, root);
  let logged: ReturnType<typeof parseBootLog> = { rootBuses: [] };
  for (const log of BOOT_LOGS) {
    const text = await reader.text(`${root}${log}`, INPUT_FILE_BYTES_MAX);
    if (text === null) continue;
    logged = parseBootLog(text);
    break;
  }
  const { rootBuses: loggedBuses, ...facts } = logged;
  return {
    source,
    functions: [],
    hostBridges: null,
    host: { ...facts, ...host },
    // The log tells bus addresses too, iomem only the CPU's.
    rootBuses: loggedBuses.length > 0 ? loggedBuses : rootBuses,
    warnings: isIomemHidden
      ? [`${source.file}: /proc/iomem was taken without root, it is zeros`]
      : [],
  };
}

const BOOT_LOGS = ["/sos_commands/kernel/dmesg", "/sos_commands/kernel/dmesg_-T", "/var/log/dmesg"];

/** Archives have everything in one folder, or not. */
async function archiveRoot(files: Files): Promise<string> {
  let root = "";
  for (let depth = 0; depth < 4; depth++) {
    const entries = await files.list(root === "" ? "/" : root);
    const names = entries.map((entry) => entry.name);
    if (entries.length !== 1 || entries[0].kind !== "directory") return root;
    if (names[0] === "sys" || names[0] === "proc") return root;
    root = `${root}/${names[0]}`;
  }
  return root;
}

/** A folder or an unpacked archive: a copy of sysfs, a sosreport, dumps beside each other. */
async function partsOfTree(files: Files, root: string, source: Source): Promise<Found> {
  const top = (await files.list(root === "" ? "/" : root)).map((entry) => entry.name);
  const parts: MachinePart[] = [];
  if (top.includes("bus") && top.includes("devices")) {
    // /sys itself.
    const { part, denied } = await readSysfs(files, root, { ...source, format: "sysfs" });
    const warning = `${source.file}: permission denied for ${denied.length} files; run as root`;
    return partsOnly(
      denied.length === 0 ? part : { ...part, warnings: [...part.warnings, warning] },
    );
  }
  if (top.includes("sys") && (await hasPciFunctions(files, `${root}/sys`))) {
    parts.push((await readSysfs(files, `${root}/sys`, { ...source, format: "sysfs" })).part);
  }
  if (top.includes("proc")) parts.push(await hostPart(files, root, source));
  const dumps = await findDumps(files, root);
  for (const path of dumps) {
    const bytes = await files.readBytes(path, INPUT_FILE_BYTES_MAX);
    const found = await dumpInside(bytes, `${source.file}: ${path.slice(root.length + 1)}`);
    parts.push(...found);
  }
  if (!parts.some((part) => part.functions.length > 0)) {
    throw new PeerlaneError("no-pci-tree", "nothing in it describes PCI devices", {
      place: source.file,
      remedy:
        "It must hold a copy of /sys (as hwloc-gather-topology makes it) or the output of lspci " +
        "(as sosreport has it).",
      details: { looked: dumps.length },
    });
  }
  return { parts, machine: null };
}

async function hasPciFunctions(files: Files, sys: string): Promise<boolean> {
  const reader = new SysfsReader(files);
  if ((await reader.names(`${sys}/bus/pci/devices`)).length > 0) return true;
  for (const name of await reader.names(`${sys}/devices`)) {
    if (!name.startsWith("pci")) continue;
    for (const device of await reader.names(`${sys}/devices/${name}`)) {
      const vendor = await reader.number(`${sys}/devices/${name}/${device}/vendor`);
      if (tryParseBdf(device) !== null && vendor !== null) return true;
    }
  }
  return false;
}

/** In the folders that are known to hold outputs of commands, and at the top. */
const DUMP_FOLDERS = ["", "/sos_commands/pci", "/sos_commands/devices", "/sos_commands/hardware"];
const DUMP_NAME = /lspci|udevadm.*export-db|lstopo|\.(?:txt|log|xml|json|hex|gz|bz2|xz)$/i;

async function findDumps(files: Files, root: string): Promise<string[]> {
  const found: string[] = [];
  for (const folder of DUMP_FOLDERS) {
    for (const { name, kind } of await entriesOf(files, `${root}${folder}` || "/")) {
      if (kind === "file" && DUMP_NAME.test(name) && found.length < DUMPS_PER_INPUT_MAX) {
        found.push(`${root}${folder}/${name}`);
      }
    }
  }
  return found;
}

/** Nothing for a folder that is not there. */
async function entriesOf(files: Files, path: string): Promise<readonly DirectoryEntry[]> {
  try {
    return await files.list(path);
  } catch (error) {
    if (error instanceof PeerlaneError && error.code !== "permission-denied") return [];
    throw error;
  }
}

/** Inside an archive a file of another format is no error, but a damaged dump is. */
async function dumpInside(bytes: Uint8Array, name: string): Promise<readonly MachinePart[]> {
  try {
    return (await partsOfBytes({ name, bytes }, 1)).parts;
  } catch (error) {
    const skipped = [
      "unknown-format",
      "empty-file",
      "not-text",
      "packing-unsupported",
      "no-pci-tree",
    ];
    if (error instanceof PeerlaneError && skipped.includes(error.code)) return [];
    throw error;
  }
}

function partOf(machine: Machine): MachinePart {
  const { unknown: _unknown, ...host } = machine.host;
  return {
    source: machine.sources[0] ?? { file: machine.name, format: "machine-json" },
    functions: machine.functions,
    hostBridges: machine.hostBridges,
    host,
    rootBuses: [],
    warnings: machine.warnings,
  };
}

function joined(
  parts: readonly MachinePart[],
  whole: readonly Machine[],
  options: ImportOptions,
): Machine {
  const [machine] = whole;
  const hasOptions = Object.keys(options).length > 0;
  if (machine !== undefined && parts.length === 1 && !hasOptions) return machine;
  return assembleMachine(withoutInferred(parts), {
    ...(machine === undefined ? {} : { name: machine.name }),
    ...options,
  });
}

/**
 * Ports that an importer had to infer, and root buses of tools that filter, give way to a source
 * that has the real ones.
 */
function withoutInferred(parts: readonly MachinePart[]): MachinePart[] {
  const isInferred = (part: MachinePart): boolean =>
    part.functions.some((fn) => isUnknown(fn, "bdf"));
  const hasReal = parts.some(
    (part) => !isInferred(part) && part.functions.some((fn) => fn.bridge !== null),
  );
  if (!hasReal) return [...parts];
  return parts.map((part) => {
    if (!isInferred(part)) return part;
    const functions = part.functions.filter((fn) => !isUnknown(fn, "bdf"));
    return { ...part, functions, hostBridges: null, warnings: [] };
  });
}
