/**
 * Captures the machine that this runs on, from /sys, /proc and /boot. Never writes, sizes no BAR,
 * loads no module; works with and without root, and says what was hidden without it.
 *
 * Serial numbers and MAC addresses stay where they are: files that hold them are not read, and the
 * places in configuration space that do are zeroed. So a capture can be sent to a stranger.
 */

import type { Files } from "../platform/index.ts";
import { assembleMachine, type MachinePart } from "./assemble.ts";
import { type HostFiles, readHostFiles } from "./host-files.ts";
import { readSysfs, type SysfsTree } from "./importers/sysfs.ts";
import { SysfsReader } from "./importers/sysfs-function.ts";
import { readSystemPciIds, withNames } from "./pci-ids.ts";
import { redactFunction } from "./redact.ts";
import type { Machine } from "./snapshot.ts";

export interface CaptureOptions {
  /** What to call the machine; the product name of its firmware otherwise. */
  readonly name?: string;
  /** Folder in front of /sys, /proc and /boot: another root file system, or a fake one in tests. */
  readonly root?: string;
}

const FORMAT = "live";

/**
 * Reads the machine.
 * @throws PeerlaneError `no-pci-tree` where there is no PCI device (a container without /sys, a
 * machine without PCI)
 */
export async function captureMachine(files: Files, options: CaptureOptions = {}): Promise<Machine> {
  const root = options.root ?? "";
  const source = { file: "live", format: FORMAT };
  const tree = await readSysfs(files, `${root}/sys`, source);
  const reader = new SysfsReader(files);
  const host = await readHostFiles(reader, root);
  const name = options.name ?? (await productName(reader, root)) ?? "this machine";
  const part: MachinePart = {
    ...tree.part,
    functions: tree.part.functions.map(redactFunction),
    host: { ...host.host, ...iommuOf(tree) },
    rootBuses: [...tree.part.rootBuses, ...host.rootBuses],
    warnings: [...tree.part.warnings, ...hiddenThings(tree, host, reader.denied)],
  };
  const machine = assembleMachine([part], { name });
  return withNames(machine, await readSystemPciIds(files, machine.functions, root));
}

/**
 * A live kernel shows IOMMU groups if it has an IOMMU. One built without support for any shows
 * nothing, which is off as well.
 */
function iommuOf({ part }: SysfsTree): MachinePart["host"] {
  const hasGroups = part.functions.some((fn) => fn.iommuGroup !== null);
  return part.host.iommu != null || hasGroups ? part.host : { iommu: "off" };
}

/** Maker and model, as firmware tells them to everyone; its serial numbers are in other files. */
async function productName(reader: SysfsReader, root: string): Promise<string | null> {
  const words = [];
  for (const file of ["sys_vendor", "product_name"]) {
    const word = await reader.text(`${root}/sys/class/dmi/id/${file}`);
    if (word !== null && /^[\x20-\x7e]{1,64}$/.test(word)) words.push(word);
  }
  return words.length === 0 ? null : words.join(" ");
}

/** What rights kept from this capture, one sentence each, with what to do. */
function hiddenThings(
  { configSizes, denied }: SysfsTree,
  host: HostFiles,
  deniedHost: readonly string[],
): string[] {
  const hidden: string[] = [];
  const cut = configSizes.get(64) ?? 0;
  const none = configSizes.get(0) ?? 0;
  if (cut > 0) {
    hidden.push(
      `not root: configuration space of ${cut} functions is cut to 64 bytes, so their ` +
        "capabilities, ACS among them, are unknown; run as root",
    );
  }
  if (none > 0) hidden.push(`configuration space of ${none} functions could not be read`);
  if (host.isIomemHidden) {
    hidden.push("not root: /proc/iomem shows zeros, so apertures are unknown; run as root");
  }
  const others = [...denied, ...deniedHost];
  if (others.length > 0) {
    const kinds = [...new Set(others.map((path) => path.split("/").at(-1) as string))].sort();
    hidden.push(
      `permission denied for ${others.length} files (${kinds.slice(0, 8).join(", ")}); run as root`,
    );
  }
  return hidden;
}
