/**
 * What Linux's text files tell of a host: /proc/cpuinfo, cmdline, version, modules, iomem, a kernel
 * configuration, a boot log. Pure functions over text, used by live capture and by every dump that
 * carries those files. A function answers only what its text says; {@link mergeHostFacts} puts the
 * answers together and {@link hostFrom} adds what is unknown and what follows.
 *
 * Leaves out: what none of the rooms asks for (clocks, caches, devices that are not PCI).
 */

import { ADDRESS_LIMIT, KERNEL_CONFIG_LINES_MAX, RAM_RANGES_MAX } from "../core/index.ts";
import type { Host, IommuMode, Unknown, Window } from "./snapshot.ts";

/** Fields of a {@link Host} that one text told. */
export type HostFacts = { readonly [K in Exclude<keyof Host, "unknown">]?: Host[K] };

/** JEP106-like implementer codes of arm64's MIDR_EL1, as /proc/cpuinfo prints them. */
const ARM_IMPLEMENTERS: Readonly<Record<string, string>> = {
  "0x41": "ARM",
  "0x42": "Broadcom",
  "0x43": "Cavium",
  "0x46": "Fujitsu",
  "0x48": "HiSilicon",
  "0x4e": "NVIDIA",
  "0x50": "APM",
  "0x51": "Qualcomm",
  "0x61": "Apple",
  "0xc0": "Ampere",
};

/** The first processor of /proc/cpuinfo; its keys differ per architecture. */
export function parseCpuinfo(text: string): HostFacts {
  const first = new Map<string, string>();
  for (const line of text.split("\n", 400)) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const key = line.slice(0, colon).trim();
    if (!first.has(key)) first.set(key, line.slice(colon + 1).trim());
  }
  const get = (key: string): string | null => first.get(key) || null;
  const facts: { -readonly [K in keyof HostFacts]: HostFacts[K] } = {};
  const implementer = get("CPU implementer");
  const power = get("cpu");
  if (get("vendor_id") !== null) {
    facts.cpuVendor = get("vendor_id");
    const family = Number(get("cpu family"));
    if (get("cpu family") !== null && Number.isInteger(family)) facts.cpuFamily = family;
    if (get("model name") !== null) facts.cpuModel = get("model name");
    const flags = get("flags")?.split(" ");
    if (flags !== undefined) facts.architecture = flags.includes("lm") ? "x86_64" : "i686";
  } else if (implementer !== null) {
    facts.cpuVendor = ARM_IMPLEMENTERS[implementer] ?? implementer;
    facts.cpuModel = get("model name") ?? get("CPU part");
    facts.architecture = get("CPU architecture") === "8" ? "aarch64" : "arm";
  } else if (power !== null && /^POWER/i.test(power)) {
    facts.cpuVendor = "IBM";
    facts.cpuModel = power;
    facts.architecture = "ppc64le";
  } else if (get("isa")?.startsWith("rv") === true) {
    facts.cpuModel = get("uarch");
    facts.architecture = get("isa")?.startsWith("rv32") === true ? "riscv32" : "riscv64";
  }
  return facts;
}

/** `Linux version 6.8.0-45-generic (...)` of /proc/version or a boot log; `6.8.0` of osrelease. */
export function parseKernelVersion(text: string): string | null {
  const match = /Linux version (\S+)/.exec(text) ?? /^(\d+\.\d+\S*)\s*$/.exec(text);
  return match?.[1] ?? null;
}

/** Names from /proc/modules or `lsmod`. */
export function parseModules(text: string): readonly string[] {
  const names = [];
  for (const line of text.split("\n")) {
    const match = /^([A-Za-z0-9_-]+) +\d+ /.exec(line);
    if (match !== null) names.push(match[1]);
  }
  return [...new Set(names)].sort();
}

/** `CONFIG_X=value` lines by name without CONFIG_, values without quotes; `n` for "is not set". */
export function parseKernelConfig(text: string): Readonly<Record<string, string>> {
  const config: Record<string, string> = {};
  for (const line of text.split("\n", KERNEL_CONFIG_LINES_MAX)) {
    const set = /^CONFIG_([A-Z0-9_a-z]+)=(?:"(.*)"|(.*))$/.exec(line);
    if (set !== null) config[set[1]] = set[2] ?? set[3];
    const unset = /^# CONFIG_([A-Z0-9_a-z]+) is not set$/.exec(line);
    if (unset !== null) config[unset[1]] = "n";
  }
  return config;
}

/** Addresses of a root bus as the CPU sees them. `bus` is null where the text tells only those. */
export interface RootBusRange {
  readonly domain: number;
  readonly rootBus: number;
  readonly phys: number;
  readonly bus: number | null;
  readonly sizeBytes: number;
}

export interface Iomem {
  readonly ram: readonly Window[];
  readonly rootBuses: readonly RootBusRange[];
  /** Without rights the kernel prints zeros for every address. */
  readonly hidden: boolean;
}

/** /proc/iomem: RAM, and the ranges of root buses (top-level `PCI Bus dddd:bb` lines). */
export function parseIomem(text: string): Iomem {
  const ram: Window[] = [];
  const rootBuses: RootBusRange[] = [];
  let lines = 0;
  let zero = 0;
  let busIndent = Number.POSITIVE_INFINITY;
  for (const line of text.split("\n")) {
    const match = /^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$/.exec(line);
    if (match === null) continue;
    lines++;
    const base = Number.parseInt(match[2], 16);
    const limit = Number.parseInt(match[3], 16);
    if (base === 0 && limit === 0) zero++;
    if (limit < base || limit >= ADDRESS_LIMIT) continue;
    const indent = match[1].length;
    if (indent <= busIndent) busIndent = Number.POSITIVE_INFINITY;
    const bus = /^PCI Bus ([0-9a-f]{4,8}):([0-9a-f]{2})$/.exec(match[4]);
    if (bus !== null && busIndent === Number.POSITIVE_INFINITY && limit > 0) {
      busIndent = indent;
      rootBuses.push({
        domain: Number.parseInt(bus[1], 16),
        rootBus: Number.parseInt(bus[2], 16),
        phys: base,
        bus: null,
        sizeBytes: limit - base + 1,
      });
    }
    if (match[4] === "System RAM" && limit > 0 && ram.length < RAM_RANGES_MAX) {
      ram.push({ base, limit });
    }
  }
  return { ram, rootBuses, hidden: lines > 1 && zero === lines };
}

/** `pci_bus 0000:00: root bus resource [mem 0xc0000000-0xfebfffff window] (bus address [0x...-` */
const ROOT_BUS_RESOURCE = new RegExp(
  "pci_bus ([0-9a-f]{4,8}):([0-9a-f]{2}): root bus resource " +
    "\\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)[^\\]\\n]*\\](?: \\(bus address \\[0x([0-9a-f]+)-)?",
  "g",
);
/** Lines that only a running IOMMU logs: any vendor's, Intel's, AMD's, Arm's. */
const IOMMU_ACTIVE = [
  "Adding to iommu group",
  "DMAR: Intel(R) Virtualization Technology for Directed I/O",
  "AMD-Vi: Interrupt remapping enabled",
  "AMD-Vi: IOMMU performance counters supported",
  "AMD-Vi: Virtual APIC enabled",
  "arm-smmu",
];

/**
 * What the kernel logged at boot: version, command line, what it did with the IOMMU, and the
 * apertures of root buses with their bus addresses, which nothing else tells.
 */
export function parseBootLog(text: string): HostFacts & { rootBuses: readonly RootBusRange[] } {
  const rootBuses: RootBusRange[] = [];
  for (const match of text.matchAll(ROOT_BUS_RESOURCE)) {
    const phys = Number.parseInt(match[3], 16);
    const limit = Number.parseInt(match[4], 16);
    const bus = match[5] === undefined ? phys : Number.parseInt(match[5], 16);
    if (limit < phys || limit >= ADDRESS_LIMIT || bus >= ADDRESS_LIMIT) continue;
    rootBuses.push({
      domain: Number.parseInt(match[1], 16),
      rootBus: Number.parseInt(match[2], 16),
      phys,
      bus,
      sizeBytes: limit - phys + 1,
    });
  }
  const version = /Linux version (\S+)/.exec(text)?.[1];
  const line = /Kernel command line: (.*)/.exec(text)?.[1];
  const iommu = iommuFromBootLog(text);
  return {
    rootBuses,
    ...(version === undefined ? {} : { kernelVersion: version }),
    ...(line === undefined ? {} : { kernelCommandLine: redactCommandLine(line) }),
    ...(iommu === null ? {} : { iommu }),
  };
}

function iommuFromBootLog(text: string): IommuMode | null {
  const match = /iommu: Default domain type: (Translated|Passthrough)/i.exec(text);
  if (match === null || !IOMMU_ACTIVE.some((line) => text.includes(line))) return null;
  return match[1].toLowerCase() === "passthrough" ? "passthrough" : "strict";
}

/** Last value of a parameter given as `name=value`, comma lists kept whole. */
function parameter(line: string, name: string): string | null {
  let value: string | null = null;
  for (const word of line.split(/\s+/)) if (word.startsWith(`${name}=`)) value = word;
  return value === null ? null : value.slice(name.length + 1);
}

/**
 * What the kernel's parameters force; null when the kernel's own default decides. `architecture`
 * keeps `intel_iommu=on` of an AMD machine from meaning anything.
 */
export function iommuFromCommandLine(line: string, cpuVendor: string | null): IommuMode | null {
  const own = cpuVendor === "AuthenticAMD" ? "amd_iommu" : "intel_iommu";
  const vendor = (parameter(line, own) ?? "").split(",");
  const generic = (parameter(line, "iommu") ?? "").split(",");
  if (vendor.includes("off") || generic.includes("off")) return "off";
  const passthrough = parameter(line, "iommu.passthrough");
  const wantsPassthrough = passthrough === null ? generic.includes("pt") : passthrough === "1";
  const isOn = vendor.includes("on") || own === "amd_iommu";
  if (wantsPassthrough) return isOn ? "passthrough" : null;
  return vendor.includes("on") && passthrough !== "1" ? "strict" : null;
}

const MAC = /\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5,6}\b/gi;
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi;
const SECRET_NAME = /pass|secret|token|serial|(?:^|[._-])key$/i;

/**
 * A command line without what identifies a machine or a person: MAC addresses, UUIDs, values of
 * parameters that are secrets, and everything after `--`, which is for init and not for the kernel.
 */
export function redactCommandLine(line: string): string {
  const words = line.trim().split(/\s+/);
  const end = words.indexOf("--");
  const kept = words.slice(0, end < 0 ? words.length : end).map((word) => {
    const equals = word.indexOf("=");
    if (equals > 0 && SECRET_NAME.test(word.slice(0, equals))) {
      return `${word.slice(0, equals)}=REDACTED`;
    }
    return word.replace(UUID, "REDACTED").replace(MAC, "REDACTED");
  });
  return kept.join(" ");
}

const CONSEQUENCES: { readonly [K in keyof HostFacts]-?: string } = {
  cpuVendor: "CPU vendor unknown: the kernel's rule for AMD CPUs cannot apply; give --cpu",
  cpuFamily: "CPU family unknown: the kernel's rule for AMD CPUs cannot apply; give --cpu",
  cpuModel: "CPU model unknown: the knowledge base of root complexes cannot be asked by model",
  architecture: "architecture unknown: the linear map cannot be sized",
  kernelVersion: "kernel version unknown: the newest rule set is used; give --kernel",
  kernelCommandLine: "kernel command line unknown: parameters for ACS and IOMMU cannot be seen",
  iommu: "IOMMU mode unknown: verdicts are given without an IOMMU; give --iommu",
  modules: "loaded modules unknown: drivers and peer-memory modules cannot be checked",
  kernelConfig: "kernel configuration unknown: CONFIG_PCI_P2PDMA cannot be checked",
  ram: "RAM ranges unknown: whether a BAR fits the linear map is judged by architecture alone",
};

/** Facts told first win; later ones fill gaps. */
export function mergeHostFacts(...facts: readonly HostFacts[]): HostFacts {
  return Object.assign({}, ...facts.toReversed().map(withoutNulls));
}

function withoutNulls(facts: HostFacts): HostFacts {
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value != null));
}

/** A whole host: what is told, and an entry in `unknown` for what is not. */
export function hostFrom(facts: HostFacts, reasons: Partial<Record<string, string>> = {}): Host {
  const fields = Object.keys(CONSEQUENCES) as (keyof HostFacts)[];
  const told = withoutNulls(facts);
  const unknown: Unknown[] = [];
  for (const field of fields) {
    // A family exists on x86 only.
    const exists =
      field !== "cpuFamily" || !/^(aarch64|arm|ppc|riscv)/.test(told.architecture ?? "");
    if (told[field] !== undefined || !exists) continue;
    const reason = reasons[field];
    const consequence = CONSEQUENCES[field];
    unknown.push({ field, consequence: reason ? `${reason}: ${consequence}` : consequence });
  }
  const value = <K extends keyof HostFacts>(field: K): Host[K] | null => told[field] ?? null;
  return {
    cpuVendor: value("cpuVendor"),
    cpuFamily: value("cpuFamily"),
    cpuModel: value("cpuModel"),
    architecture: value("architecture"),
    kernelVersion: value("kernelVersion"),
    kernelCommandLine: value("kernelCommandLine"),
    iommu: value("iommu"),
    modules: value("modules"),
    kernelConfig: value("kernelConfig"),
    ram: value("ram"),
    unknown,
  };
}
