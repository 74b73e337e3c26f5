/**
 * Class codes: what a function is for, as numbers and as lspci names them. PCI Code and ID
 * Assignment Specification 1.15, section 1. Names are those of the PCI ID database, 2023.
 *
 * Leaves out: programming interfaces, except where they tell kinds apart.
 */

import type { PciFunction } from "./snapshot.ts";

/** What a function is to peer-to-peer: who may own memory, who may issue DMA. */
export type DeviceKind = "nvme" | "nic" | "gpu" | "accelerator" | "storage" | "bridge" | "other";

/** Base classes by number. */
const BASE_CLASSES: Readonly<Record<number, string>> = {
  0: "Unclassified device",
  1: "Mass storage controller",
  2: "Network controller",
  3: "Display controller",
  4: "Multimedia controller",
  5: "Memory controller",
  6: "Bridge",
  7: "Communication controller",
  8: "Generic system peripheral",
  9: "Input device controller",
  10: "Docking station",
  11: "Processor",
  12: "Serial bus controller",
  13: "Wireless controller",
  14: "Intelligent controller",
  15: "Satellite communications controller",
  16: "Encryption controller",
  17: "Signal processing controller",
  18: "Processing accelerators",
  19: "Non-Essential Instrumentation",
  64: "Coprocessor",
  255: "Unassigned class",
};

/**
 * Sub-classes: base class * 256 + sub-class. No object: one with numbers this far apart for keys is
 * 70 KB of mostly nothing.
 */
const SUB_CLASSES: ReadonlyMap<number, string> = new Map([
  [0, "Non-VGA unclassified device"],
  [1, "VGA compatible unclassified device"],
  [256, "SCSI storage controller"],
  [257, "IDE interface"],
  [258, "Floppy disk controller"],
  [260, "RAID bus controller"],
  [261, "ATA controller"],
  [262, "SATA controller"],
  [263, "Serial Attached SCSI controller"],
  [264, "Non-Volatile memory controller"],
  [265, "Universal Flash Storage controller"],
  [384, "Mass storage controller"],
  [512, "Ethernet controller"],
  [519, "Infiniband controller"],
  [520, "Fabric controller"],
  [640, "Network controller"],
  [768, "VGA compatible controller"],
  [769, "XGA compatible controller"],
  [770, "3D controller"],
  [896, "Display controller"],
  [1024, "Multimedia video controller"],
  [1025, "Multimedia audio controller"],
  [1027, "Audio device"],
  [1152, "Multimedia controller"],
  [1280, "RAM memory"],
  [1281, "FLASH memory"],
  [1282, "CXL"],
  [1408, "Memory controller"],
  [1536, "Host bridge"],
  [1537, "ISA bridge"],
  [1538, "EISA bridge"],
  [1540, "PCI bridge"],
  [1541, "PCMCIA bridge"],
  [1543, "CardBus bridge"],
  [1545, "Semi-transparent PCI-to-PCI bridge"],
  [1546, "InfiniBand to PCI host bridge"],
  [1664, "Bridge"],
  [1792, "Serial controller"],
  [1793, "Parallel controller"],
  [1794, "Multiport serial controller"],
  [1795, "Modem"],
  [1920, "Communication controller"],
  [2048, "PIC"],
  [2049, "DMA controller"],
  [2050, "Timer"],
  [2051, "RTC"],
  [2052, "PCI Hot-plug controller"],
  [2053, "SD Host controller"],
  [2054, "IOMMU"],
  [2176, "System peripheral"],
  [2305, "Digitizer Pen"],
  [2432, "Input device controller"],
  [2880, "Co-processor"],
  [3072, "FireWire (IEEE 1394)"],
  [3075, "USB controller"],
  [3076, "Fibre Channel"],
  [3077, "SMBus"],
  [3078, "InfiniBand"],
  [3079, "IPMI Interface"],
  [3081, "CANBUS"],
  [3200, "Serial bus controller"],
  [3345, "Bluetooth"],
  [3456, "Wireless controller"],
  [4096, "Network and computing encryption device"],
  [4112, "Entertainment encryption device"],
  [4224, "Encryption controller"],
  [4352, "DPIO module"],
  [4353, "Performance counters"],
  [4368, "Communication synchronizer"],
  [4384, "Signal processing management"],
  [4480, "Signal processing controller"],
  [4608, "Processing accelerators"],
  [4609, "SNIA Smart Data Accelerator Interface (SDXI) controller"],
]);

/** The name of a 24-bit class code; null when neither sub-class nor base class has one. */
export function classNameOf(classCode: number): string | null {
  return SUB_CLASSES.get(classCode >>> 8) ?? BASE_CLASSES[classCode >>> 16] ?? null;
}

const byName = new Map<string, number>();
for (const [code, name] of Object.entries(BASE_CLASSES)) {
  // Sub-class 80h is "other" in every base class that has it.
  byName.set(name.toLowerCase(), Number(code) * 65_536 + 0x8000);
}
SUB_CLASSES.forEach((name, code) => {
  byName.set(name.toLowerCase(), code * 256);
});

/**
 * The class code, programming interface zero, of a name as lspci prints it; null when unknown.
 * Letter case differs between releases of the database.
 */
export function classCodeOf(name: string): number | null {
  return byName.get(name.toLowerCase()) ?? null;
}

const VENDOR_NVIDIA = 0x10de;
const VENDOR_AMD_GPU = 0x1002;
const NVME_INTERFACE = 0x02;

/** Class 0880h and 0b40h are anything; these vendors' functions there compute or move data. */
const ACCELERATOR_CLASSES = new Set([0x0b40, 0x1200]);

/**
 * What kind of device a function is, by class code, and by vendor where the class does not tell.
 */
export function deviceKind(fn: Pick<PciFunction, "classCode" | "vendorId">): DeviceKind {
  const subClass = fn.classCode >>> 8;
  const baseClass = fn.classCode >>> 16;
  if (subClass === 0x0108) return isNvme(fn.classCode) ? "nvme" : "storage";
  // NVSwitch is a bridge of class 0680h that forwards no PCI traffic, so it is one of "other".
  if (subClass === 0x0680) return "other";
  if (ACCELERATOR_CLASSES.has(subClass)) {
    const makesGpus = fn.vendorId === VENDOR_NVIDIA || fn.vendorId === VENDOR_AMD_GPU;
    return makesGpus && subClass === 0x1200 ? "gpu" : "accelerator";
  }
  // InfiniBand adapters are class 0207h, older ones 0c06h.
  if (subClass === 0x0c06) return "nic";
  if (baseClass === 0x01) return "storage";
  if (baseClass === 0x02) return "nic";
  if (baseClass === 0x03) return "gpu";
  if (baseClass === 0x06) return "bridge";
  if (baseClass === 0x12) return "accelerator";
  return "other";
}

function isNvme(classCode: number): boolean {
  return (classCode & 0xff) === NVME_INTERFACE;
}
