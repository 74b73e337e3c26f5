/**
 * Checks of what stands above the devices: NVMe multipath, md and dm, mount options, a virtual
 * machine around it all, and what is known of the devices' drivers.
 */

import { formatBdf } from "../../core/index.ts";
import { deviceFacts, isQemu } from "../knowledge.ts";
import { type CheckResult, fail, ok, type Subject, unknown } from "./subject.ts";

const NVMET_MULTIPATH =
  "with it a namespace is a block device that is no PCI device: nvmet refuses it (O_DIRECT " +
  "still works)";
const GDS_MULTIPATH =
  "GPUDirect Storage does not support it with P2PDMA (NVIDIA's troubleshooting guide, 14.3)";

/** Native NVMe multipath hides the PCI device behind each namespace. */
export function multipath({ use, machine }: Subject): CheckResult[] {
  const [id, title] = ["nvme-multipath", "NVMe multipath"];
  if (use !== "gds" && use !== "nvmeof-cmb") return [];
  const why = use === "gds" ? GDS_MULTIPATH : NVMET_MULTIPATH;
  const { kernelCommandLine, kernelConfig } = machine.host;
  const value = /(?:^|\s)nvme_core\.multipath=(\S+)/.exec(kernelCommandLine ?? "")?.[1];
  const off = "nvme_core.multipath=N";
  if (value !== undefined && /^[N0n]$/.test(value))
    return [ok(id, title, `${off} on the command line`)];
  if (value !== undefined)
    return [fail(id, title, `on (command line): ${why}`, "Turn it off.", off)];
  if (kernelConfig !== null && !/^[ym]$/.test(kernelConfig.NVME_MULTIPATH ?? "n")) {
    return [ok(id, title, "CONFIG_NVME_MULTIPATH is not set")];
  }
  if (kernelConfig !== null && kernelCommandLine !== null) {
    const seen = `CONFIG_NVME_MULTIPATH=y, and nothing on the command line turns it off: ${why}`;
    return [fail(id, title, seen, "Turn it off, there or in modprobe.d.", off)];
  }
  return [
    unknown(
      id,
      title,
      `the dump does not tell; it is on by default: ${why}`,
      "Look at the parameter.",
      "cat /sys/module/nvme_core/parameters/multipath",
    ),
  ];
}

/** Drivers that stack block devices and do not pass the peer-to-peer feature on. */
const STACKING = /^(?:raid\d+|raid456|linear|md_mod|dm_mod|dm_multipath|dm_crypt|bcache)$/;

/** Peer memory does not survive RAID, LVM, encryption: the feature is not inherited. */
export function stacking({ use, machine }: Subject): CheckResult[] {
  const [id, title] = ["stacking", "md, dm, LVM in the way"];
  if (use !== "gds" && use !== "nvmeof-cmb") return [];
  const why =
    "stacked block devices do not carry the peer-to-peer feature (BLK_FEAT_PCI_P2PDMA is " +
    "not inherited): " +
    "I/O on them falls back or fails";
  const { modules } = machine.host;
  const remedy = "Put the file system or namespace on the NVMe itself.";
  if (modules === null) {
    return [unknown(id, title, `loaded modules are not in the dump; ${why}`, remedy, "lsblk")];
  }
  const loaded = modules.filter((name) => STACKING.test(name));
  if (loaded.length === 0) return [ok(id, title, "no stacking driver is loaded")];
  const evidence = `loaded: ${loaded.join(", ")}; if the volume is on one of them: ${why}`;
  return [unknown(id, title, evidence, remedy, "lsblk -o NAME,TYPE,MOUNTPOINT")];
}

/** No dump of PCI tells mounts; GPUDirect Storage needs ext4 in ordered mode, said explicitly. */
export function mounts({ use }: Subject): CheckResult[] {
  if (use !== "gds") return [];
  return [
    unknown(
      "mounts",
      "mount options",
      "not in the dump; ext4 must be mounted with data=ordered written out, or XFS be used",
      "Look, and mount again with it.",
      "grep -E 'ext4|xfs' /proc/mounts",
    ),
  ];
}

const NVIDIA = 0x10de;

/** What is known of the devices, and what NVIDIA's driver must be told. */
export function drivers({ use, owners, initiators, functionAt }: Subject): CheckResult[] {
  const [id, title] = ["drivers", "devices and their drivers"];
  if (use === "vfio") return [];
  const functions = [...new Set([...owners, ...initiators])].map(functionAt);
  for (const fn of functions) {
    const [fact] = deviceFacts(fn);
    if (fact === undefined) continue;
    const evidence = `${formatBdf(fn.bdf)}: ${fact.text} (${fact.source})`;
    return [fail(id, title, evidence, "Use a data centre or professional card, or host memory.")];
  }
  if (use === "gds" && functions.some(({ vendorId }) => vendorId === NVIDIA)) {
    return [
      unknown(
        id,
        title,
        "NVIDIA's driver shares GPU memory by P2PDMA only with a static BAR1, which " +
          "no dump tells " +
          "(NVIDIA's troubleshooting guide, 14.3)",
        "Set it, unless the system is a Grace one.",
        'options nvidia NVreg_RegistryDwords="RMForceStaticBar1=1;RmForceDisableIomapWC=1;"',
      ),
    ];
  }
  return [];
}

/** A guest sees a tree that is not the host's. */
export function virtualMachine({ machine }: Subject): CheckResult[] {
  const [id, title] = ["virtual-machine", "virtual machine"];
  if (isQemu(machine)) {
    return [
      unknown(
        id,
        title,
        "this is a guest: its tree is made up, the host's switches, ACS and IOMMU decide. " +
          "A mapping that " +
          "reports success may be a private copy: the writer reads its own data back, the " +
          "owner sees zeros",
        "Check the host's dump too, and verify data by reading it from its owner's side.",
      ),
    ];
  }
  return [];
}
