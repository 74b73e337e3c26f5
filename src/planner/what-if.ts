/**
 * What-if: changes to a machine as a user names them on the command line, read from text and
 * applied to a copy. Every command that takes a machine takes these.
 *
 * Order: what Linux does to ACS at boot, ids and ACS words by the names in the dump, then moves,
 * then the host. A move gives a
 * function a new name; {@link Changed.nameOf} follows it.
 *
 * Invariants: the given machine stays as it was; what cannot be done is a {@link UsageError} that
 * says what can; what had to be assumed is in `notes`.
 */

import {
  type Bdf,
  formatBdf,
  formatDeviceId,
  hex,
  PeerlaneError,
  parseBdf,
  UsageError,
} from "../core/index.ts";
import {
  addAcs,
  editFunction,
  type IommuMode,
  isUnknown,
  type Machine,
  MachineIndex,
  type PciFunction,
  setAcsControl,
  setHost,
} from "../machine/index.ts";
import {
  formatVersion,
  type KernelVersion,
  LATEST_KERNEL,
  parseKernelVersion,
  ruleSetFor,
} from "../p2p/index.ts";
import { AcsBit } from "../spec/pcie/index.ts";
import { formatAcsWord } from "./acs-text.ts";
import { isFirstOfRootBus, withHostBridge } from "./host-bridge.ts";
import { namedFunction } from "./interest.ts";
import { iommuOf } from "./iommu.ts";
import { moveDevice } from "./move.ts";

/** The texts of the options, as they were typed. */
export interface WhatIfTexts {
  readonly setAcs?: readonly string[] | undefined;
  readonly setId?: readonly string[] | undefined;
  readonly move?: readonly string[] | undefined;
  readonly kernel?: string | undefined;
  readonly iommu?: string | undefined;
  readonly cpu?: string | undefined;
}

export interface WhatIf {
  readonly acs: readonly { readonly bdf: Bdf; readonly control: number }[];
  readonly ids: readonly {
    readonly bdf: Bdf;
    readonly vendorId: number;
    readonly deviceId: number;
  }[];
  readonly moves: readonly { readonly bdf: Bdf; readonly port: Bdf }[];
  readonly kernel: KernelVersion | null;
  readonly iommu: IommuMode | null;
  readonly cpu: { readonly vendor: string; readonly family: number | null } | null;
}

/** A machine after the changes. */
export interface Changed {
  readonly machine: Machine;
  /** One sentence for each change that was made. */
  readonly changes: readonly string[];
  /** What had to be assumed for them. */
  readonly notes: readonly string[];
  /** The name that a function of the given machine has now. */
  nameOf(bdf: Bdf): Bdf;
}

const IOMMU_MODES: Readonly<Record<string, IommuMode>> = {
  off: "off",
  pt: "passthrough",
  passthrough: "passthrough",
  strict: "strict",
};

/** Vendors as /proc/cpuinfo prints them; only on these the family has a meaning. */
const X86_VENDORS = ["AuthenticAMD", "GenuineIntel", "HygonGenuine", "CentaurHauls", "Shanghai"];
const OTHER_VENDORS = ["ARM", "Ampere", "NVIDIA", "HiSilicon", "Fujitsu", "Qualcomm", "IBM"];
/** What people write for them. */
const VENDOR_ALIASES: Readonly<Record<string, string>> = {
  amd: "AuthenticAMD",
  intel: "GenuineIntel",
  hygon: "HygonGenuine",
};

/** Reads the options. Throws {@link UsageError} that says what is right. */
export function parseWhatIf(texts: WhatIfTexts): WhatIf {
  return {
    acs: (texts.setAcs ?? []).map(parseAcs),
    ids: (texts.setId ?? []).map(parseIds),
    moves: (texts.move ?? []).map(parseMove),
    kernel: parseKernel(texts.kernel),
    iommu: parseIommu(texts.iommu),
    cpu: parseCpu(texts.cpu),
  };
}

function split(option: string, text: string, form: string): { bdf: Bdf; value: string } {
  const at = text.indexOf("=");
  if (at <= 0 || at === text.length - 1) {
    throw new UsageError(`bad-${option}`, `--${option} ${text}: it is no assignment`, {
      remedy: `write --${option} ${form}`,
    });
  }
  return { bdf: parseBdf(text.slice(0, at)), value: text.slice(at + 1).trim() };
}

const ACS_FORM = "0000:02:00.0=0x0c";

function parseAcs(text: string): WhatIf["acs"][number] {
  const { bdf, value } = split("set-acs", text, ACS_FORM);
  const control = /^(0x[0-9a-f]{1,4}|\d{1,5})$/i.test(value) ? Number(value) : Number.NaN;
  if (control >= 0 && control <= 0xffff) return { bdf, control };
  throw new UsageError("bad-set-acs", `"${value}" is no ACS Control word`, {
    remedy:
      `write --set-acs ${ACS_FORM}; bits are SV 0x01, TB 0x02, RR 0x04, CR 0x08, UF 0x10, ` +
      "EC 0x20, DT 0x40",
  });
}

function parseIds(text: string): WhatIf["ids"][number] {
  const { bdf, value } = split("set-id", text, "0000:00:00.0=8086:2030");
  const match = /^(?:0x)?([0-9a-f]{1,4}):(?:0x)?([0-9a-f]{1,4})$/i.exec(value);
  if (match === null) {
    throw new UsageError("bad-set-id", `"${value}" is no pair of ids`, {
      remedy: "write --set-id 0000:00:00.0=8086:2030, vendor and device in hex",
    });
  }
  const [vendorId, deviceId] = [match[1], match[2]].map((part) => Number.parseInt(part, 16));
  return { bdf, vendorId, deviceId };
}

function parseMove(text: string): WhatIf["moves"][number] {
  const { bdf, value } = split("move", text, "0000:05:00.0=0000:02:01.0");
  return { bdf, port: parseBdf(value) };
}

function parseKernel(text: string | undefined): KernelVersion | null {
  if (text === undefined) return null;
  if (text === "latest") return LATEST_KERNEL;
  const version = parseKernelVersion(text);
  if (version === null) {
    throw new UsageError("bad-kernel", `"${text}" is no kernel version`, {
      remedy: "write --kernel 6.12, or --kernel latest",
    });
  }
  try {
    ruleSetFor(version);
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    throw new UsageError("bad-kernel", error.message, {
      remedy: `write --kernel 6.12, or --kernel latest, which is ${formatVersion(LATEST_KERNEL)}`,
      cause: error,
    });
  }
  return version;
}

function parseIommu(text: string | undefined): IommuMode | null {
  if (text === undefined) return null;
  const mode = IOMMU_MODES[text];
  if (mode !== undefined) return mode;
  throw new UsageError("bad-iommu", `"${text}" is no IOMMU mode`, {
    remedy: "write --iommu off, --iommu pt or --iommu strict",
  });
}

function parseCpu(text: string | undefined): WhatIf["cpu"] {
  if (text === undefined) return null;
  const match = /^\s*([A-Za-z][\w .-]*?)(?::(0x[0-9a-f]{1,4}|\d{1,5}))?\s*$/i.exec(text);
  const known = match === null ? undefined : vendorOf(match[1]);
  const family = match?.[2] === undefined ? null : Number(match[2]);
  // A family is what decides on x86; elsewhere there is none.
  if (known !== undefined && (family !== null || !X86_VENDORS.includes(known))) {
    return { vendor: known, family };
  }
  throw new UsageError("bad-cpu", `"${text}" is no CPU`, {
    remedy:
      "write vendor_id and cpu family as /proc/cpuinfo prints them, --cpu " +
      "AuthenticAMD:23 (decimal, " +
      `0x17); vendors are ${[...X86_VENDORS, ...OTHER_VENDORS].join(", ")}`,
  });
}

function vendorOf(text: string): string | undefined {
  const name = text.trim().toLowerCase();
  const all = [...X86_VENDORS, ...OTHER_VENDORS];
  return VENDOR_ALIASES[name] ?? all.find((vendor) => vendor.toLowerCase() === name);
}

/**
 * Applies the changes to a copy.
 * @throws UsageError `no-such-function`, `port-taken`, `not-a-port`, `not-an-endpoint`
 */
export function applyWhatIf(machine: Machine, whatIf: WhatIf): Changed {
  const changes: string[] = [];
  const notes: string[] = [];
  const names = new Map<Bdf, Bdf>();
  let now = bootedWith(machine, whatIf.iommu, notes);
  for (const { bdf, vendorId, deviceId } of whatIf.ids) {
    if (isFirstOfRootBus(now, bdf)) {
      notes.push(`${formatBdf(bdf)} is not in the dump: added as the host bridge of its root bus`);
    } else requireFunction(now, bdf);
    now = withHostBridge(now, bdf, { vendorId, deviceId });
    const id = formatDeviceId(vendorId, deviceId);
    changes.push(`${formatBdf(bdf)} has ids ${id}`);
  }
  for (const { bdf, control } of whatIf.acs) {
    requireFunction(now, bdf);
    now = setAcs(now, bdf, control, notes);
    changes.push(`${formatBdf(bdf)} ACS Control is ${hex(control, 4)} (${formatAcsWord(control)})`);
  }
  for (const { bdf, port } of whatIf.moves) {
    requireFunction(now, bdf);
    requireFunction(now, port);
    const moved = moveDevice(now, names.get(bdf) ?? bdf, port);
    now = moved.machine;
    for (const [from, to] of moved.names) names.set(from, to);
    notes.push(...moved.notes);
    const to = formatBdf(moved.names.get(bdf) ?? bdf);
    changes.push(`${formatBdf(bdf)} is moved below ${formatBdf(port)} and becomes ${to}`);
  }
  const host = changeHost(now, whatIf, changes);
  return { machine: host, changes, notes, nameOf: (bdf) => names.get(bdf) ?? bdf };
}

/** What Linux sets on every function that can, where there is an IOMMU (pci_enable_acs). */
const ACS_WITH_IOMMU =
  AcsBit.sourceValidation |
  AcsBit.requestRedirect |
  AcsBit.completionRedirect |
  AcsBit.upstreamForwarding;

/**
 * ACS as Linux leaves it at boot with this IOMMU mode: with an IOMMU it sets {@link ACS_WITH_IOMMU}
 * as far as a function has them; without one it leaves what firmware set, which a dump taken with
 * an IOMMU does not tell. Linux drivers/pci/pci.c, pci_enable_acs and pci_std_enable_acs.
 */
function bootedWith(machine: Machine, mode: IommuMode | null, notes: string[]): Machine {
  const had = iommuOf(machine).mode;
  if (mode === null || (mode === "off") === (had === "off")) return machine;
  if (mode === "off") {
    notes.push(
      "ACS is taken as in the dump, which Linux set because there was an IOMMU; booted without " +
        "one it leaves what firmware set, mostly nothing: --set-acs PORT=0 shows that",
    );
    return machine;
  }
  let count = 0;
  const functions = machine.functions.map((fn) => {
    const wanted = fn.acs === null ? 0 : fn.acs.control | (fn.acs.capabilities & ACS_WITH_IOMMU);
    if (fn.acs === null || wanted === fn.acs.control) return fn;
    count++;
    return setAcsControl({ ...machine, functions: [fn] }, fn.bdf, wanted).functions[0];
  });
  if (count > 0) {
    notes.push(
      `with an IOMMU Linux sets SV, RR, CR and UF at boot: done on ${count} functions that have ` +
        "ACS; --set-acs says otherwise for a port",
    );
  }
  const hidden = machine.functions.filter((fn) => fn.bridge !== null && isUnknown(fn, "acs"));
  if (hidden.length > 0) {
    notes.push(
      `the dump does not tell ACS of ${hidden.length} bridges, where Linux would set it too`,
    );
  }
  return count === 0 ? machine : { ...machine, functions };
}

const requireFunction = (machine: Machine, bdf: Bdf): PciFunction =>
  namedFunction(new MachineIndex(machine), bdf);

/** Sets the word, with a capability to hold it where the dump shows none. */
function setAcs(machine: Machine, bdf: Bdf, control: number, notes: string[]): Machine {
  const fn = machine.functions.find((other) => other.bdf === bdf);
  if (fn == null || fn.acs !== null) return setAcsControl(machine, bdf, control);
  const name = formatBdf(bdf);
  notes.push(
    isUnknown(fn, "acs")
      ? `the dump does not tell whether ${name} has ACS: taken as if it had`
      : `${name} has no ACS capability in the dump: taken as if it had one`,
  );
  if (fn.pcie !== null) return setAcsControl(addAcs(machine, bdf), bdf, control);
  // Where even PCI Express is unknown there are no bytes to keep in step, only the fact.
  return editFunction(machine, bdf, (old) => ({
    ...old,
    acs: { offset: 0x100, capabilities: 0x5f, control, egressVector: null },
    unknown: old.unknown.filter(({ field }) => field !== "acs"),
  }));
}

function changeHost(machine: Machine, { kernel, iommu, cpu }: WhatIf, changes: string[]): Machine {
  let now = machine;
  if (kernel !== null) {
    now = setHost(now, { kernelVersion: `${formatVersion(kernel)}.0` });
    changes.push(`the kernel is Linux ${formatVersion(kernel)}`);
  }
  if (iommu !== null) {
    now = setHost(now, { iommu });
    changes.push(`the IOMMU is ${iommu === "off" ? "off" : `on, ${iommu}`}`);
  }
  if (cpu !== null) {
    const isX86 = X86_VENDORS.includes(cpu.vendor);
    const architecture = isX86 ? "x86_64" : null;
    // What was known of another CPU's model must not stay beside the new vendor.
    const host = { ...now.host, cpuVendor: null, cpuFamily: null, cpuModel: null };
    const cleared = { ...now, host: isX86 ? { ...host, architecture: null } : host };
    now = setHost(cleared, { cpuVendor: cpu.vendor, cpuFamily: cpu.family, architecture });
    const family = cpu.family === null ? "" : ` family ${cpu.family} (${hex(cpu.family, 2)})`;
    changes.push(`the CPU is ${cpu.vendor}${family}`);
  }
  return now;
}
