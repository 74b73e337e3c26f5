/**
 * One PCI function as sysfs shows it: the files of its folder, read without judging them. What they
 * mean for the machine is sysfs.ts.
 *
 * Invariants: reads only, and never a file that holds a serial number or a MAC address (`vpd`,
 * `net/*\/address`). A file that is missing is not told; one that may not be read is remembered.
 */

import {
  type Bdf,
  PeerlaneError,
  SYSFS_ATTRIBUTE_BYTES_MAX,
  tryParseBdf,
} from "../../core/index.ts";
import type { Files } from "../../platform/index.ts";
import { type DevicePath, parseDevicePath } from "./device-path.ts";
import { isKernelName, KERNEL_NAMES_MAX } from "./kernel-names.ts";

/** Reads text and bytes that may not be there, and remembers what was refused. */
export class SysfsReader {
  readonly files: Files;
  /** Paths that exist and may not be read. */
  readonly denied: string[] = [];

  constructor(files: Files) {
    this.files = files;
  }

  async bytes(path: string, limit = SYSFS_ATTRIBUTE_BYTES_MAX): Promise<Uint8Array | null> {
    try {
      return await this.files.readBytes(path, limit);
    } catch (error) {
      this.note(error, path);
      return null;
    }
  }

  /** Trimmed; null when there is no such file. A tar of sysfs pads files with zeros to a page. */
  async text(path: string, limit = SYSFS_ATTRIBUTE_BYTES_MAX): Promise<string | null> {
    const bytes = await this.bytes(path, limit);
    if (bytes === null) return null;
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
  }

  async number(path: string): Promise<number | null> {
    const text = await this.text(path);
    if (text === null || text === "") return null;
    const value = Number(text);
    return Number.isSafeInteger(value) ? value : null;
  }

  async names(path: string): Promise<string[]> {
    try {
      return (await this.files.list(path)).map((entry) => entry.name);
    } catch (error) {
      this.note(error, path);
      return [];
    }
  }

  /** Last part of where a link points. */
  async linkName(path: string): Promise<string | null> {
    return (await this.link(path))?.split("/").at(-1) ?? null;
  }

  async link(path: string): Promise<string | null> {
    try {
      return await this.files.readLink(path);
    } catch {
      // Missing and "not a link" are the same answer here, and neither needs rights.
      return null;
    }
  }

  private note(error: unknown, path: string): void {
    if (!(error instanceof PeerlaneError)) throw error;
    if (error.code === "permission-denied") this.denied.push(path);
    // A device that is asleep or gone answers reads with an error: as good as not told.
  }
}

/** A line of `resource`: CPU addresses, both ends inclusive, and the kernel's IORESOURCE flags. */
export interface Resource {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
}

export interface SysfsFunction {
  readonly bdf: Bdf;
  readonly path: DevicePath | null;
  readonly config: Uint8Array | null;
  readonly vendorId: number | null;
  readonly deviceId: number | null;
  readonly subsystemVendorId: number | null;
  readonly subsystemId: number | null;
  readonly classCode: number | null;
  readonly revision: number | null;
  /** By line; null for an empty one. */
  readonly resources: readonly (Resource | null)[];
  /** -1 when the system gives it none; null when the file is missing. */
  readonly numaNode: number | null;
  readonly iommuGroup: number | null;
  readonly iommuDomain: string | null;
  readonly driver: string | null;
  readonly physicalFunction: Bdf | null;
  readonly linkSpeed: string | null;
  readonly linkWidth: string | null;
  readonly linkSpeedMax: string | null;
  readonly linkWidthMax: string | null;
  readonly secondaryBus: number | null;
  readonly subordinateBus: number | null;
  readonly p2pmem: { readonly sizeBytes: number; readonly published: boolean } | null;
  readonly kernelNames: readonly string[];
}

const RESOURCE_LINES_MAX = 32;

/** Lines of `resource`. Addresses beyond what numbers hold exactly are not told. */
export function parseResources(text: string): (Resource | null)[] {
  return text.split("\n", RESOURCE_LINES_MAX).map((line) => {
    const match = /^0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})$/.exec(line.trim());
    if (match === null) return null;
    const [start, end, flags] = match.slice(1).map((word) => Number.parseInt(word, 16));
    if (flags === 0 || end < start || !Number.isSafeInteger(end)) return null;
    return { start, end, flags };
  });
}

/** Folders of a function whose entries are names that people use. */
const NAMED = ["net", "nvme", "infiniband", "drm", "dax", "accel"];

async function kernelNamesOf(reader: SysfsReader, folder: string): Promise<string[]> {
  const entries = await reader.names(folder);
  const names: string[] = [];
  for (const kind of NAMED.filter((name) => entries.includes(name))) {
    for (const name of await reader.names(`${folder}/${kind}`)) {
      names.push(name);
      if (kind !== "nvme") continue;
      const namespaces = await reader.names(`${folder}/nvme/${name}`);
      names.push(...namespaces.filter((entry) => /^nvme\d+(?:c\d+)?n\d+$/.test(entry)));
    }
  }
  for (const device of entries.filter((name) => /^virtio\d+$/.test(name))) {
    for (const kind of ["net", "block"]) {
      names.push(...(await reader.names(`${folder}/${device}/${kind}`)));
    }
  }
  return [...new Set(names)].filter(isKernelName).sort().slice(0, KERNEL_NAMES_MAX);
}

async function peerMemoryOf(reader: SysfsReader, folder: string): Promise<SysfsFunction["p2pmem"]> {
  const sizeBytes = await reader.number(`${folder}/p2pmem/size`);
  if (sizeBytes === null) return null;
  return { sizeBytes, published: (await reader.number(`${folder}/p2pmem/published`)) === 1 };
}

const HEADER_BYTES = 64;
/** What a function has, largest first. */
const CONFIG_SIZES = [4096, 256, HEADER_BYTES];
const STATUS_OFFSET = 0x06;
const STATUS_CAPABILITIES = 0x10;

/**
 * Configuration space as it was read. A user sees 64 bytes, and a tar made by one pads them with
 * zeros to the size that root sees: capabilities that the header announces and that are all zero
 * were not there to be read. A copy, since the bytes may be a view into a whole archive.
 */
function realConfig(bytes: Uint8Array): Uint8Array | null {
  const size = CONFIG_SIZES.find((whole) => bytes.length >= whole);
  if (size === undefined) return null;
  const announces = (bytes[STATUS_OFFSET] & STATUS_CAPABILITIES) !== 0;
  const isPadded = announces && bytes.subarray(HEADER_BYTES).every((byte) => byte === 0);
  return new Uint8Array(bytes.subarray(0, isPadded ? HEADER_BYTES : size));
}

/** `folder` is the function's own, `target` where its link in bus/pci/devices points. */
export async function readSysfsFunction(
  reader: SysfsReader,
  bdf: Bdf,
  folder: string,
  target: string | null,
): Promise<SysfsFunction> {
  const number = (name: string): Promise<number | null> => reader.number(`${folder}/${name}`);
  const text = (name: string): Promise<string | null> => reader.text(`${folder}/${name}`);
  const group = await reader.linkName(`${folder}/iommu_group`);
  const config = await reader.bytes(`${folder}/config`);
  const physical = await reader.linkName(`${folder}/physfn`);
  return {
    bdf,
    path: target === null ? null : parseDevicePath(target),
    config: config === null ? null : realConfig(config),
    vendorId: await number("vendor"),
    deviceId: await number("device"),
    subsystemVendorId: await number("subsystem_vendor"),
    subsystemId: await number("subsystem_device"),
    classCode: await number("class"),
    revision: await number("revision"),
    resources: parseResources((await text("resource")) ?? ""),
    numaNode: await number("numa_node"),
    iommuGroup: group !== null && /^\d{1,9}$/.test(group) ? Number(group) : null,
    iommuDomain: group === null ? null : await text("iommu_group/type"),
    driver: await reader.linkName(`${folder}/driver`),
    physicalFunction: physical === null ? null : tryParseBdf(physical),
    linkSpeed: await text("current_link_speed"),
    linkWidth: await text("current_link_width"),
    linkSpeedMax: await text("max_link_speed"),
    linkWidthMax: await text("max_link_width"),
    secondaryBus: await number("secondary_bus_number"),
    subordinateBus: await number("subordinate_bus_number"),
    p2pmem: await peerMemoryOf(reader, folder),
    kernelNames: await kernelNamesOf(reader, folder),
  };
}
