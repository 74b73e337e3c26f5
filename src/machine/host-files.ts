/**
 * The host's facts from its files: /proc and /boot of this machine, or of a copy of them. Reads
 * only; what is missing or hidden is named, not guessed.
 */

import { ADDRESS_LIMIT, PROC_FILE_BYTES_MAX, RAM_RANGES_MAX } from "../core/index.ts";
import { gunzip, packingOf } from "../platform/index.ts";
import {
  type HostFacts,
  mergeHostFacts,
  parseCpuinfo,
  parseIomem,
  parseKernelConfig,
  parseKernelVersion,
  parseModules,
  type RootBusRange,
  redactCommandLine,
} from "./host-facts.ts";
import type { SysfsReader } from "./importers/sysfs-function.ts";
import type { Window } from "./snapshot.ts";

export interface HostFiles {
  readonly host: HostFacts;
  readonly rootBuses: readonly RootBusRange[];
  /** True when /proc/iomem is there and shows zeros only. */
  readonly isIomemHidden: boolean;
}

/** `root` is empty for this machine, the folder of the copy for others. */
export async function readHostFiles(reader: SysfsReader, root: string): Promise<HostFiles> {
  const text = (path: string): Promise<string | null> =>
    reader.text(`${root}${path}`, PROC_FILE_BYTES_MAX);
  const facts: HostFacts[] = [];
  const architecture = await text("/proc/sys/kernel/arch");
  if (architecture !== null) facts.push({ architecture });
  const cpuinfo = await text("/proc/cpuinfo");
  if (cpuinfo !== null) facts.push(parseCpuinfo(cpuinfo));
  const release =
    (await text("/proc/sys/kernel/osrelease")) ??
    parseKernelVersion((await text("/proc/version")) ?? "");
  if (release !== null) facts.push({ kernelVersion: release });
  const commandLine = await text("/proc/cmdline");
  if (commandLine !== null) facts.push({ kernelCommandLine: redactCommandLine(commandLine) });
  const modules = await text("/proc/modules");
  if (modules !== null) facts.push({ modules: parseModules(modules) });
  const config = await kernelConfigText(reader, root, release);
  if (config !== null) facts.push({ kernelConfig: parseKernelConfig(config) });
  const iomem = parseIomem((await text("/proc/iomem")) ?? "");
  const ram = iomem.ram.length > 0 ? iomem.ram : await ramFromSysfs(reader, `${root}/sys`);
  if (ram.length > 0) facts.push({ ram });
  return {
    host: mergeHostFacts(...facts),
    rootBuses: iomem.hidden ? [] : iomem.rootBuses,
    isIomemHidden: iomem.hidden,
  };
}

async function kernelConfigText(
  reader: SysfsReader,
  root: string,
  release: string | null,
): Promise<string | null> {
  const places = ["/proc/config.gz"];
  if (release !== null && /^[\w.+~-]+$/.test(release)) {
    places.push(`/boot/config-${release}`, `/usr/lib/modules/${release}/config`);
  }
  for (const place of places) {
    const bytes = await reader.bytes(`${root}${place}`, PROC_FILE_BYTES_MAX);
    if (bytes === null) continue;
    const plain = packingOf(bytes) === "gzip" ? gunzip(bytes, PROC_FILE_BYTES_MAX, place) : bytes;
    return new TextDecoder().decode(plain);
  }
  return null;
}

/**
 * RAM without rights to see iomem: the firmware's map, or else blocks of hot-pluggable memory (one
 * size for all, in hexadecimal).
 */
async function ramFromSysfs(reader: SysfsReader, sys: string): Promise<Window[]> {
  const ranges: Window[] = [];
  for (const entry of (await reader.names(`${sys}/firmware/memmap`)).slice(0, RAM_RANGES_MAX)) {
    const folder = `${sys}/firmware/memmap/${entry}`;
    if ((await reader.text(`${folder}/type`)) !== "System RAM") continue;
    const base = await reader.number(`${folder}/start`);
    const limit = await reader.number(`${folder}/end`);
    if (base !== null && limit !== null && limit > base && limit < ADDRESS_LIMIT) {
      ranges.push({ base, limit });
    }
  }
  if (ranges.length > 0) return joined(ranges);
  const memory = `${sys}/devices/system/memory`;
  const blockBytes = Number.parseInt((await reader.text(`${memory}/block_size_bytes`)) ?? "", 16);
  if (!(blockBytes > 0 && blockBytes < ADDRESS_LIMIT)) return [];
  for (const name of (await reader.names(memory)).slice(0, RAM_RANGES_MAX)) {
    if (!/^memory\d+$/.test(name)) continue;
    if ((await reader.text(`${memory}/${name}/state`)) !== "online") continue;
    const index = Number.parseInt((await reader.text(`${memory}/${name}/phys_index`)) ?? "", 16);
    const base = index * blockBytes;
    if (base >= 0 && base + blockBytes < ADDRESS_LIMIT) {
      ranges.push({ base, limit: base + blockBytes - 1 });
    }
  }
  return joined(ranges);
}

/** Sorted, neighbours as one. */
function joined(ranges: readonly Window[]): Window[] {
  const result: Window[] = [];
  for (const range of [...ranges].sort((a, b) => a.base - b.base)) {
    const last = result.at(-1);
    if (last !== undefined && range.base <= last.limit + 1) {
      result[result.length - 1] = { base: last.base, limit: Math.max(last.limit, range.limit) };
    } else {
      result.push(range);
    }
  }
  return result;
}
