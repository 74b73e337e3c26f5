/**
 * Checks of the kernel: version, configuration, modules, IOMMU mode, and ACS parameters on its
 * command line that name what is not there.
 *
 * Sources: versions from docs/rules.md and the kernel's history of P2PDMA; GPUDirect Storage from
 * https://docs.nvidia.com/gpudirect-storage/troubleshooting-guide/nvme-p2pdma-troubleshooting.html.
 */

import { formatBdf, tryParseBdf } from "../../core/index.ts";
import {
  compareVersions,
  formatVersion,
  type KernelVersion,
  parseKernelVersion,
} from "../../p2p/index.ts";
import { iommuOf } from "../iommu.ts";
import { type CheckResult, fail, ok, type Subject, type Use, unknown } from "./subject.ts";

interface VersionNeed {
  readonly since: KernelVersion;
  readonly why: string;
  readonly otherwise: string;
  /** The same where the GPUs are NVIDIA's. */
  readonly nvidia?: string;
}

const VERSION_NEEDS: Readonly<Record<Use, VersionNeed>> = {
  gds: {
    since: { major: 6, minor: 2 },
    why: "O_DIRECT into peer memory",
    otherwise: "run 6.2 or later",
    nvidia: "run 6.2 or later, or use the module nvidia-fs with its patched NVMe driver",
  },
  gdr: {
    since: { major: 5, minor: 12 },
    why: "RDMA registration of dma-buf",
    otherwise: "run 5.12 or later",
    nvidia: "run 5.12 or later, or load the peer-memory module nvidia-peermem",
  },
  "nvmeof-cmb": {
    since: { major: 6, minor: 0 },
    why: "peer memory in ordinary scatterlists (P2PDMA as such came with 4.20)",
    otherwise: "run 6.0 or later",
  },
  vfio: {
    since: { major: 6, minor: 19 },
    why:
      "BARs exported as dma-buf; without it iommufd cannot map a peer's BAR (EFAULT, the guest " +
      "does not boot)",
    otherwise:
      "run 6.19 or later, or use the legacy container (vfio_iommu_type1), which maps BARs itself",
  },
};

export function kernelVersion(subject: Subject): CheckResult[] {
  const { use, machine } = subject;
  const [id, title] = ["kernel-version", "kernel version"];
  const { since, why, otherwise, nvidia } = VERSION_NEEDS[use];
  const text = machine.host.kernelVersion;
  const version = parseKernelVersion(text);
  const need = `Linux ${formatVersion(since)} (${why})`;
  if (version === null) {
    const evidence = `not in the dump; needed: ${need}`;
    return [unknown(id, title, evidence, "Add `uname -a`, or give --kernel.")];
  }
  const seen = `Linux ${text ?? formatVersion(version)}; needed: ${need}`;
  if (compareVersions(version, since) >= 0) return [ok(id, title, seen)];
  const remedy = hasNvidiaGpu(subject) ? (nvidia ?? otherwise) : otherwise;
  return [fail(id, title, seen, sentence(remedy))];
}

interface ConfigNeed {
  readonly symbol: string;
  readonly why: string;
  readonly uses: readonly Use[];
  /** Vendor of the GPU it is about. */
  readonly vendor?: number;
}

const AMD_GPU = 0x1002;
const INTEL_GPU = 0x8086;

const CONFIG_NEEDS: readonly ConfigNeed[] = [
  { symbol: "PCI_P2PDMA", why: "peer-to-peer DMA itself", uses: ["gds", "gdr", "nvmeof-cmb"] },
  { symbol: "ZONE_DEVICE", why: "struct page for BARs", uses: ["gds", "nvmeof-cmb"] },
  { symbol: "MEMORY_HOTPLUG", why: "ZONE_DEVICE needs it", uses: ["gds", "nvmeof-cmb"] },
  { symbol: "MEMORY_HOTREMOVE", why: "ZONE_DEVICE needs it", uses: ["gds", "nvmeof-cmb"] },
  { symbol: "SPARSEMEM_VMEMMAP", why: "ZONE_DEVICE needs it", uses: ["gds", "nvmeof-cmb"] },
  { symbol: "DMA_SHARED_BUFFER", why: "dma-buf", uses: ["gdr"] },
  {
    symbol: "DMABUF_MOVE_NOTIFY",
    why: "dma-bufs that stay in GPU memory while shared",
    uses: ["gdr"],
    vendor: AMD_GPU,
  },
  {
    symbol: "DMABUF_MOVE_NOTIFY",
    why: "dma-bufs that stay in GPU memory while shared",
    uses: ["gdr"],
    vendor: INTEL_GPU,
  },
  { symbol: "HSA_AMD_P2P", why: "AMD GPUs as peers", uses: ["gds", "gdr"], vendor: AMD_GPU },
  { symbol: "NVME_TARGET", why: "the NVMe-oF target", uses: ["nvmeof-cmb"] },
  { symbol: "NVME_TARGET_RDMA", why: "its RDMA transport", uses: ["nvmeof-cmb"] },
  { symbol: "VFIO_PCI", why: "VFIO", uses: ["vfio"] },
  { symbol: "IOMMUFD", why: "iommufd", uses: ["vfio"] },
];

/** One result for each symbol that is missing; one for all of them otherwise. */
export function kernelConfig({ use, machine, owners, functionAt }: Subject): CheckResult[] {
  const [id, title] = ["kernel-config", "kernel configuration"];
  const vendors = new Set(owners.map((owner) => functionAt(owner).vendorId));
  const needs = CONFIG_NEEDS.filter(
    ({ uses, vendor }) => uses.includes(use) && (vendor === undefined || vendors.has(vendor)),
  );
  const symbols = [...new Set(needs.map(({ symbol }) => `CONFIG_${symbol}`))].join(", ");
  const config = machine.host.kernelConfig;
  if (config === null) {
    return [
      unknown(
        id,
        title,
        `not in the dump; needed: ${symbols}`,
        "Look at the kernel's configuration, or capture the machine.",
        `grep -E '${needs.map(({ symbol }) => symbol).join("|")}' /boot/config-$(uname -r)`,
      ),
    ];
  }
  const missing = needs.filter(({ symbol }) => !/^[ym]$/.test(config[symbol] ?? "n"));
  if (missing.length === 0) return [ok(id, title, `set: ${symbols}`)];
  return missing.map(({ symbol, why }) =>
    fail(
      id,
      title,
      `CONFIG_${symbol} is not set: ${why}`,
      `Boot a kernel built with CONFIG_${symbol}=y.`,
    ),
  );
}

interface ModuleNeed {
  /** Any of them will do. */
  readonly names: readonly string[];
  readonly why: string;
  readonly remedy: string;
}

const NVIDIA = 0x10de;

const hasNvidiaGpu = ({ owners, functionAt }: Subject): boolean =>
  owners.some((owner) => functionAt(owner).vendorId === NVIDIA);

function moduleNeeds(subject: Subject): ModuleNeed[] {
  const { use, machine } = subject;
  const hasNvidia = hasNvidiaGpu(subject);
  const version = parseKernelVersion(machine.host.kernelVersion);
  const isOld = version !== null && compareVersions(version, { major: 6, minor: 2 }) < 0;
  const needs: ModuleNeed[] = [];
  if (hasNvidia && (use === "gds" || use === "gdr")) {
    needs.push({ names: ["nvidia"], why: "the GPU's driver", remedy: "modprobe nvidia" });
  }
  if (use === "gds" && hasNvidia && isOld) {
    needs.push({
      names: ["nvidia_fs"],
      why: "kernels before 6.2 have no P2PDMA for O_DIRECT",
      remedy: "modprobe nvidia-fs",
    });
  }
  if (use === "nvmeof-cmb") {
    needs.push({
      names: ["nvmet_rdma"],
      why: "the target's transport",
      remedy: "modprobe nvmet-rdma",
    });
  }
  if (use === "vfio") {
    needs.push({ names: ["vfio_pci"], why: "VFIO's driver", remedy: "modprobe vfio-pci" });
  }
  return needs;
}

export function modules(subject: Subject): CheckResult[] {
  const [id, title] = ["modules", "kernel modules"];
  const needs = moduleNeeds(subject);
  const loaded = subject.machine.host.modules;
  if (needs.length === 0) return [];
  const names = needs.flatMap((need) => need.names).join(", ");
  if (loaded === null) {
    const evidence = `loaded modules are not in the dump; needed: ${names}`;
    return [unknown(id, title, evidence, "Add the output of lsmod.")];
  }
  const missing = needs.filter((need) => !need.names.some((name) => loaded.includes(name)));
  if (missing.length === 0) return [ok(id, title, `loaded: ${names}`)];
  return missing.map(({ names: any, why, remedy }) =>
    fail(id, title, `${any.join(" or ")} is not loaded: ${why}`, "Load it.", remedy),
  );
}

/** GPU drivers hand out bus addresses; VFIO cannot do without an IOMMU. */
export function iommuMode({ use, machine }: Subject): CheckResult[] {
  const [id, title] = ["iommu", "IOMMU mode"];
  const mode = machine.host.iommu;
  // AMD's is on unless it was turned off; its parameter has no `on`.
  const isAmd = machine.host.cpuVendor === "AuthenticAMD";
  if (mode === null) {
    const { mode: taken, grounds } = iommuOf(machine);
    if (use === "vfio" && taken !== "off") return [ok(id, title, `on: ${grounds}`)];
    const how = "look at the boot log, or give --iommu";
    const evidence = taken === "off" ? "not in the dump" : `on: ${grounds}`;
    return [unknown(id, title, evidence, sentence(how), "dmesg | grep -i iommu")];
  }
  if (use === "vfio") {
    return mode === "off"
      ? [
          fail(
            id,
            title,
            "off: VFIO needs one",
            isAmd
              ? "Turn it on in firmware setup, and take amd_iommu=off off the command line."
              : "Turn it on, in firmware setup too.",
            isAmd ? null : "intel_iommu=on",
          ),
        ]
      : [ok(id, title, `on, ${mode}`)];
  }
  if (mode !== "strict") return [ok(id, title, mode === "off" ? "off" : "on, passes through")];
  if (use === "nvmeof-cmb") {
    return [
      ok(id, title, "strict: below a switch bus addresses are used, above it IOVAs; both work"),
    ];
  }
  return [
    fail(
      id,
      title,
      "strict: it translates. Drivers that hand out bus addresses (nvidia-peermem, " +
        "nvidia-fs) fault " +
        "as soon as a request reaches it (IO_PAGE_FAULT, zeros), and Linux turns ACS on for it",
      "Let it pass through, or turn it off.",
      "iommu=pt",
    ),
  ];
}

/** Parameters that were meant for a port and name something else do nothing, silently. */
export function acsParameters({ machine, index }: Subject): CheckResult[] {
  const [id, title] = ["acs-parameters", "ACS parameters"];
  const line = machine.host.kernelCommandLine ?? "";
  const values = [...line.matchAll(/(disable_acs_redir|config_acs)=(?:pci:)?([^\s,]+)/g)];
  if (values.length === 0) return [];
  const results: CheckResult[] = [];
  for (const [, name, list] of values) {
    for (const entry of list.split(/[;]/)) {
      const text = entry.includes("@") ? entry.slice(entry.indexOf("@") + 1) : entry;
      const bdf = tryParseBdf(text);
      if (bdf === null) continue;
      const fn = index.functionAt(bdf);
      if (fn !== null && (fn.acs !== null || fn.unknown.some(({ field }) => field === "acs")))
        continue;
      const why = fn === null ? "is not in the machine" : "has no ACS capability";
      results.push(
        fail(
          id,
          title,
          `pci=${name}= names ${formatBdf(bdf)}, which ${why}: it does nothing`,
          "Name the port that redirects: `peerlane explain` prints the line.",
        ),
      );
    }
  }
  return results.length > 0 ? results : [ok(id, title, "every port named has ACS")];
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
