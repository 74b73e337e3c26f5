/**
 * What `struct page` behind device memory costs, and whether the kernel can have it at all:
 * page-backed peer memory must lie inside the kernel's linear map. A page-less provider needs
 * neither.
 *
 * Sources: 64 bytes of struct page per page, memory hotplug in 2 MiB sub-sections (Linux
 * include/linux/mmzone.h, memremap_compat_align); linear maps from
 * Documentation/arch/x86/x86_64/mm.rst, arch/arm64/memory.rst, arch/riscv/vm-layout.rst, and
 * arch/powerpc MAX_PHYSMEM_BITS.
 *
 * Invariant: a BAR fits when all of it, rounded out to the alignment, is inside the map; where the
 * map begins at RAM and the dump does not tell RAM, the answer is that it is unknown.
 */

import { formatBytes, hex, parseSize, UsageError } from "../core/index.ts";
import { deviceKind, type Host, type Machine, type PciFunction } from "../machine/index.ts";
import { compareVersions, type KernelVersion, parseKernelVersion } from "../p2p/index.ts";
import { interestOf } from "./interest.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const PIB = 2 ** 50;
const STRUCT_PAGE_BYTES = 64;
const SUBSECTION_BYTES = 2 * MIB;

export interface LinearMap {
  readonly id: string;
  /** As `uname -m` prints it. */
  readonly architecture: "x86_64" | "aarch64" | "riscv64" | "ppc64le";
  readonly title: string;
  readonly sizeBytes: number;
  /** Where it begins: at physical address 0, or at the first RAM. */
  readonly from: "zero" | "ram";
  readonly alignment: number;
}

const map = (
  id: string,
  architecture: LinearMap["architecture"],
  title: string,
  sizeBytes: number,
  from: LinearMap["from"],
  alignment = SUBSECTION_BYTES,
): LinearMap => ({ id, architecture, title, sizeBytes, from, alignment });

export const LINEAR_MAPS: readonly LinearMap[] = [
  map("x86-64-4", "x86_64", "x86-64, 4-level paging", 64 * TIB, "zero"),
  map("x86-64-5", "x86_64", "x86-64, 5-level paging", 32 * PIB, "zero"),
  map("arm64-39", "aarch64", "arm64, 39-bit VA", 256 * GIB, "ram"),
  map("arm64-42", "aarch64", "arm64, 42-bit VA", 2 * TIB, "ram"),
  map("arm64-48", "aarch64", "arm64, 48-bit VA", 128 * TIB, "ram"),
  map("arm64-52", "aarch64", "arm64, 52-bit VA", 4 * PIB, "ram"),
  map("riscv-39", "riscv64", "riscv, Sv39", 128 * GIB, "ram"),
  map("riscv-48", "riscv64", "riscv, Sv48", 64 * TIB, "ram"),
  map("riscv-57", "riscv64", "riscv, Sv57", 32 * PIB, "ram"),
  map("powerpc-51", "ppc64le", "powerpc, 51 bits (4.20 on)", 2 * PIB, "zero"),
  map("powerpc-46", "ppc64le", "powerpc, 46 bits (before 4.20)", 64 * TIB, "zero"),
  map("powerpc-hash", "ppc64le", "powerpc, hash MMU", 2 * PIB, "zero", 16 * MIB),
];

/** Physical address space beyond numbers that are exact: the map is then as good as endless. */
const ADDRESSES = 2 ** 53;

export type Fit = "fits" | "does-not-fit" | "unknown";

export interface FitAnswer {
  readonly map: LinearMap;
  readonly fit: Fit;
  /** Why not, or what is missing. */
  readonly text: string;
}

/** A BAR as the question is about it. */
export interface PagedBar {
  readonly sizeBytes: number;
  /** CPU address; null when only a size was given. */
  readonly phys: number | null;
}

/** Memory of struct pages, in RAM, for pages of that size. */
export const structPageBytes = (sizeBytes: number, pageBytes = 4 * KIB): number =>
  Math.ceil(sizeBytes / pageBytes) * STRUCT_PAGE_BYTES;

/** First RAM address; null when the dump does not tell. */
export const ramBase = ({ ram }: Host): number | null =>
  ram === null || ram.length === 0 ? null : Math.min(...ram.map(({ base }) => base));

/** Whether it fits one map. */
export function fitOf(bar: PagedBar, linear: LinearMap, firstRam: number | null): FitAnswer {
  const answer = (fit: Fit, text: string): FitAnswer => ({ map: linear, fit, text });
  if (bar.sizeBytes > linear.sizeBytes) {
    return answer("does-not-fit", `larger than the map of ${formatBytes(linear.sizeBytes)}`);
  }
  if (bar.phys === null) return answer("fits", "by size; the address was not given");
  const start = bar.phys - (bar.phys % linear.alignment);
  const end = Math.ceil((bar.phys + bar.sizeBytes) / linear.alignment) * linear.alignment;
  if (linear.from === "ram" && firstRam === null) {
    return answer("unknown", "the map begins at RAM, which the dump does not tell");
  }
  const base = linear.from === "zero" ? 0 : (firstRam as number);
  const limit = Math.min(base + linear.sizeBytes, ADDRESSES);
  if (start < base) {
    return answer("does-not-fit", `begins at ${hex(start)}, below RAM at ${hex(base)}`);
  }
  if (end > limit) {
    return answer("does-not-fit", `ends at ${hex(end)}, the map at ${hex(limit)}`);
  }
  return answer("fits", `inside ${hex(base)} to ${hex(limit)}`);
}

/** Randomised maps left this much above RAM (CONFIG_RANDOMIZE_MEMORY_PHYSICAL_PADDING). */
const KASLR_PADDING = 10 * TIB;
/** From here on the map is not shrunk where peer-to-peer DMA is built in (commit 7ffb791423c7). */
const KASLR_FIXED: KernelVersion = { major: 6, minor: 15 };

/**
 * What address randomisation did to the map of x86-64 before 6.15: it ended 10 TiB above RAM. Null
 * where that does not apply; else whether the BAR is above that.
 */
export function kaslrLimit(host: Host, bar: PagedBar): { readonly limit: number } | null {
  const version = parseKernelVersion(host.kernelVersion);
  const isX86 = host.architecture === null || host.architecture === "x86_64";
  const isOff = /(?:^|\s)nokaslr(?:\s|$)/.test(host.kernelCommandLine ?? "");
  if (!isX86 || version === null || isOff || compareVersions(version, KASLR_FIXED) >= 0)
    return null;
  if (host.ram === null || host.ram.length === 0 || bar.phys === null) return null;
  const top = Math.max(...host.ram.map(({ limit }) => limit)) + 1;
  const limit = top + KASLR_PADDING;
  return bar.phys + bar.sizeBytes > limit ? { limit } : null;
}

/** Page-backed memory comes in sub-sections of 2 MiB: both ends must be at one. */
export const isSectionAligned = ({ sizeBytes, phys }: PagedBar): boolean =>
  sizeBytes % SUBSECTION_BYTES === 0 && (phys ?? 0) % SUBSECTION_BYTES === 0;

/** One BAR with everything there is to say about it. */
export interface PagesRow {
  readonly fn: PciFunction | null;
  readonly barIndex: number | null;
  readonly bar: PagedBar;
  readonly structBytes: number;
  readonly structBytes64k: number;
  readonly isAligned: boolean;
  readonly fits: readonly FitAnswer[];
  readonly kaslr: { readonly limit: number } | null;
}

export interface PagesReport {
  readonly title: string;
  /** Architecture of the machine; null when unknown or when only a size was given. */
  readonly architecture: string | null;
  /** The root complex told, not the dump. */
  readonly isInferred: boolean;
  readonly rows: readonly PagesRow[];
}

/** For a size, at an address or anywhere; `firstRam` where the RAM of the machine begins. */
export function pagesOfSize(
  sizeBytes: number,
  phys: number | null,
  firstRam: number | null = null,
): PagesReport {
  const bar = { sizeBytes, phys };
  const fits = LINEAR_MAPS.map((linear) => fitOf(bar, linear, firstRam));
  const rows = [rowOf(null, null, bar, fits, null)];
  return { title: "any machine", architecture: null, isInferred: false, rows };
}

/** Smaller ones are registers. */
const MEMORY_MIN_BYTES = 1 * MIB;

/**
 * For the memory BARs of the machine's devices that could be shared: the largest of each NVMe, GPU
 * and accelerator (a NIC's are doorbells), or all of all.
 */
export function pagesOfMachine(machine: Machine, all = false): PagesReport {
  const { host } = machine;
  const firstRam = ramBase(host);
  const architecture = architectureOf(machine);
  const maps = mapsFor(architecture);
  const rows = interestOf(machine).flatMap((at) => {
    const fn = machine.functions[at];
    const large = fn.bars.filter(
      ({ kind, index, sizeBytes }) =>
        kind !== "io" && index < 6 && sizeBytes !== null && sizeBytes >= MEMORY_MIN_BYTES,
    );
    const largest = large.toSorted((a, b) => (b.sizeBytes ?? 0) - (a.sizeBytes ?? 0)).slice(0, 1);
    const chosen = all ? large : deviceKind(fn) === "nic" ? [] : largest;
    return chosen.map(({ index, address, sizeBytes }) => {
      const bar = {
        sizeBytes: sizeBytes ?? 0,
        phys: address === 0 ? null : physOf(machine, fn, address),
      };
      const fits = maps.map((linear) => fitOf(bar, linear, firstRam));
      return rowOf(fn, index, bar, fits, kaslrLimit(host, bar));
    });
  });
  const isInferred = architecture !== null && host.architecture === null;
  return { title: machine.name, architecture, isInferred, rows };
}

/** Vendors of root complexes that exist on x86 alone: Intel, AMD, Zhaoxin. */
const X86_ROOTS = new Set([0x8086, 0x1022, 0x1d17]);

/** As the dump tells it, or as its root complex does. */
export function architectureOf({ host, functions }: Machine): string | null {
  if (host.architecture !== null) return host.architecture;
  const [first] = functions;
  const isRoot = first !== undefined && first.bdf % 65_536 === 0;
  return isRoot && X86_ROOTS.has(first.vendorId) ? "x86_64" : null;
}

function rowOf(
  fn: PciFunction | null,
  barIndex: number | null,
  bar: PagedBar,
  fits: readonly FitAnswer[],
  kaslr: PagesRow["kaslr"],
): PagesRow {
  return {
    fn,
    barIndex,
    bar,
    structBytes: structPageBytes(bar.sizeBytes),
    structBytes64k: structPageBytes(bar.sizeBytes, 64 * KIB),
    isAligned: isSectionAligned(bar),
    fits,
    kaslr,
  };
}

/** Maps of one architecture; all where it is not known. */
export function mapsFor(architecture: string | null): readonly LinearMap[] {
  const known = LINEAR_MAPS.filter((linear) => linear.architecture === architecture);
  return known.length > 0 ? known : LINEAR_MAPS;
}

/** CPU address of a bus address, by the host bridge's apertures. */
export function physOf(machine: Machine, fn: PciFunction, bus: number): number {
  const domain = Math.floor(fn.bdf / 65_536);
  for (const bridge of machine.hostBridges) {
    if (bridge.domain !== domain) continue;
    const aperture = bridge.apertures.find(
      (range) => bus >= range.bus && bus < range.bus + range.sizeBytes,
    );
    if (aperture !== undefined) return bus - aperture.bus + aperture.phys;
  }
  return bus;
}

/** `80GiB`, `256 MiB`, `512K`, `4096`. Throws {@link UsageError} `bad-size`. */
export function sizeOf(text: string): number {
  const size = parseSize(text);
  if (size !== null) return size;
  throw new UsageError("bad-size", `"${text}" is no size`, {
    remedy: "write it as 256MiB, 80GiB or in bytes",
  });
}

/** `0x58500000`. Throws {@link UsageError} `bad-address`. */
export function parseAddress(text: string): number {
  const value = /^(0x[0-9a-f]{1,13}|\d{1,16})$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value < 2 ** 52) return value;
  throw new UsageError("bad-address", `"${text}" is no physical address`, {
    remedy: "write it in hex, as 0x58500000, below 2^52",
  });
}
