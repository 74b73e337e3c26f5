/**
 * A made-up /sys, /proc and /boot in memory: two root ports, an NVMe SSD with peer memory behind
 * one, a NIC with a virtual function behind the other, addresses of the bus 256 GiB below the
 * CPU's.
 */

import { MemoryFiles } from "../src/platform/index.ts";

export interface FakeSysfsOptions {
  /** Bytes of configuration space that are readable: 4096 for root, 64 for others. */
  readonly configBytes?: 64 | 256 | 4096;
  /** What only root sees is hidden, as Linux hides it. */
  readonly isRoot?: boolean;
  readonly iommu?: "identity" | "DMA-FQ" | null;
  /** CPU address minus bus address. */
  readonly offset?: number;
}

export const SERIAL_NUMBER = [0x11, 0x22, 0x33, 0xff, 0xfe, 0x44, 0x55, 0x66];

interface FakeFunction {
  readonly vendor: number;
  readonly device: number;
  readonly classCode: number;
  readonly header?: number;
  readonly buses?: readonly [number, number, number];
  readonly barAddress?: number;
  readonly portType: number;
  readonly hasAcs?: boolean;
}

/** 4096 bytes with PCI Express, VPD, Device Serial Number and, on request, ACS capabilities. */
function configOf(fn: FakeFunction): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint16(0x00, fn.vendor, true);
  view.setUint16(0x02, fn.device, true);
  view.setUint16(0x04, 0x0006, true);
  view.setUint16(0x06, 0x0010, true);
  view.setUint32(0x08, fn.classCode * 256 + 1, true);
  view.setUint8(0x0e, fn.header ?? 0);
  bytes.set(fn.buses ?? [], 0x18);
  if (fn.barAddress !== undefined) {
    view.setUint32(0x10, (fn.barAddress % 2 ** 32) | 0x0c, true);
    view.setUint32(0x14, Math.floor(fn.barAddress / 2 ** 32), true);
  }
  view.setUint8(0x34, 0x40);
  // VPD, whose data register holds four bytes of the serial number that were read last.
  view.setUint16(0x40, 0x5003, true);
  view.setUint32(0x44, 0x41424344, true);
  view.setUint16(0x50, 0x0010, true);
  view.setUint16(0x52, (fn.portType << 4) | 2, true);
  view.setUint32(0x5c, 0x00000104, true);
  view.setUint16(0x62, 0x0104, true);
  // Device Serial Number at 0x100, then ACS with request redirect at 0x120.
  view.setUint32(0x100, 0x0003 | (1 << 16) | ((fn.hasAcs === true ? 0x120 : 0) << 20), true);
  bytes.set(SERIAL_NUMBER, 0x104);
  if (fn.hasAcs === true) {
    view.setUint32(0x120, 0x000d | (1 << 16), true);
    view.setUint16(0x124, 0x005f, true);
    view.setUint16(0x126, 0x001d, true);
  }
  return bytes;
}

const hex = (value: number, digits: number): string =>
  `0x${value.toString(16).padStart(digits, "0")}`;

export const NVME_BAR_BUS = 0x40_0000_0000;
export const NVME_BAR_BYTES = 16 * 1024 * 1024;

const FUNCTIONS: Readonly<Record<string, FakeFunction & { readonly path: string }>> = {
  "0000:00:01.0": {
    path: "0000:00:01.0",
    vendor: 0x8086,
    device: 0x2030,
    classCode: 0x060400,
    header: 1,
    buses: [0, 1, 1],
    portType: 4,
    hasAcs: true,
  },
  "0000:00:02.0": {
    path: "0000:00:02.0",
    vendor: 0x8086,
    device: 0x2031,
    classCode: 0x060400,
    header: 1,
    buses: [0, 2, 2],
    portType: 4,
  },
  "0000:01:00.0": {
    path: "0000:00:01.0/0000:01:00.0",
    vendor: 0x144d,
    device: 0xa824,
    classCode: 0x010802,
    barAddress: NVME_BAR_BUS,
    portType: 0,
  },
  "0000:02:00.0": {
    path: "0000:00:02.0/0000:02:00.0",
    vendor: 0x15b3,
    device: 0x101b,
    classCode: 0x020000,
    portType: 0,
  },
  "0000:02:00.1": {
    path: "0000:00:02.0/0000:02:00.1",
    vendor: 0x15b3,
    device: 0x101c,
    classCode: 0x020000,
    portType: 0,
  },
};

export function fakeSysfs(options: FakeSysfsOptions = {}): MemoryFiles {
  const { configBytes = 4096, isRoot = true, iommu = "DMA-FQ", offset = 0 } = options;
  const files = new MemoryFiles();
  files.addDirectory("/sys/kernel/iommu_groups");
  let group = 0;
  for (const [name, fn] of Object.entries(FUNCTIONS)) {
    const folder = `/sys/devices/pci0000:00/${fn.path}`;
    const up = "../".repeat(fn.path.split("/").length + 2);
    files.addSymlink(`/sys/bus/pci/devices/${name}`, `../../../devices/pci0000:00/${fn.path}`);
    files.addFile(`${folder}/config`, configOf(fn).subarray(0, configBytes));
    files.addFile(`${folder}/vendor`, `${hex(fn.vendor, 4)}\n`);
    files.addFile(`${folder}/device`, `${hex(fn.device, 4)}\n`);
    files.addFile(`${folder}/class`, `${hex(fn.classCode, 6)}\n`);
    files.addFile(`${folder}/revision`, "0x01\n");
    files.addFile(`${folder}/numa_node`, fn.portType === 4 ? "-1\n" : "1\n");
    files.addFile(`${folder}/current_link_speed`, "16.0 GT/s PCIe\n");
    files.addFile(`${folder}/current_link_width`, "16\n");
    files.addFile(`${folder}/max_link_speed`, "16.0 GT/s PCIe\n");
    files.addFile(`${folder}/max_link_width`, "16\n");
    files.addFile(`${folder}/vpd`, "SN1234567890").deny(`${folder}/vpd`);
    if (fn.buses !== undefined) {
      files.addFile(`${folder}/secondary_bus_number`, `${fn.buses[1]}\n`);
      files.addFile(`${folder}/subordinate_bus_number`, `${fn.buses[2]}\n`);
    }
    if (iommu !== null) {
      const groupFolder = `/sys/kernel/iommu_groups/${group}`;
      files.addFile(`${groupFolder}/type`, `${iommu}\n`);
      files.addSymlink(`${folder}/iommu_group`, `${up}kernel/iommu_groups/${group++}`);
    }
    files.addSymlink(
      `${folder}/driver`,
      `${up}bus/pci/drivers/${fn.portType === 4 ? "pcieport" : "x"}`,
    );
  }
  addNvme(files, offset);
  addNic(files);
  addHost(files, isRoot, offset);
  return files;
}

function addNvme(files: MemoryFiles, offset: number): void {
  const folder = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
  const start = NVME_BAR_BUS + offset;
  const bar = `${hex(start, 16)} ${hex(start + NVME_BAR_BYTES - 1, 16)} 0x0000000000142208\n`;
  files.addFile(
    `${folder}/resource`,
    `${bar}${`${hex(0, 16)} ${hex(0, 16)} ${hex(0, 16)}\n`.repeat(12)}`,
  );
  files.addFile(`${folder}/p2pmem/size`, `${NVME_BAR_BYTES / 2}\n`);
  files.addFile(`${folder}/p2pmem/published`, "1\n");
  files.addFile(`${folder}/nvme/nvme0/nvme0n1/wwid`, "eui.0011223344556677\n");
  files.addFile("/sys/bus/pci/slots/5/address", "0000:01:00\n");
}

function addNic(files: MemoryFiles): void {
  const folder = "/sys/devices/pci0000:00/0000:00:02.0";
  files.addFile(`${folder}/0000:02:00.0/infiniband/mlx5_0/node_guid`, "0011:2233:4455:6677\n");
  files.addFile(`${folder}/0000:02:00.0/net/eth2/address`, "00:11:22:33:44:55\n");
  files.addFile(`${folder}/0000:02:00.0/net/enx001122334455/address`, "00:11:22:33:44:55\n");
  files.addSymlink(`${folder}/0000:02:00.1/physfn`, "../0000:02:00.0");
}

function addHost(files: MemoryFiles, isRoot: boolean, offset: number): void {
  const range = (start: number, end: number, what: string): string =>
    `${(isRoot ? start : 0).toString(16).padStart(8, "0")}-` +
    `${(isRoot ? end : 0).toString(16).padStart(8, "0")} : ${what}\n`;
  files.addFile(
    "/proc/iomem",
    range(0x1000, 0x7fffffff, "System RAM") +
      range(NVME_BAR_BUS + offset, NVME_BAR_BUS + offset + 2 ** 36 - 1, "PCI Bus 0000:00"),
  );
  files.addFile(
    "/proc/cpuinfo",
    "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Xeon\nflags\t\t: lm\n",
  );
  files.addFile("/proc/sys/kernel/osrelease", "6.12.0\n");
  files.addFile("/proc/cmdline", "root=/dev/sda intel_iommu=on BOOTIF=01-00-11-22-33-44-55\n");
  files.addFile("/proc/modules", "nvme 65536 0 - Live 0x0\n");
  files.addFile("/boot/config-6.12.0", "CONFIG_PCI_P2PDMA=y\n");
  files.addFile("/sys/class/dmi/id/sys_vendor", "Contoso\n");
  files.addFile("/sys/class/dmi/id/product_name", "Server 9000\n");
  files.addFile("/sys/class/dmi/id/product_serial", "SERIAL-777\n");
  files.addFile("/sys/devices/system/memory/block_size_bytes", "8000000\n");
  for (const block of [0, 1, 4]) {
    files.addFile(`/sys/devices/system/memory/memory${block}/phys_index`, `0000000${block}\n`);
    files.addFile(`/sys/devices/system/memory/memory${block}/state`, "online\n");
  }
  files.addFile("/usr/share/misc/pci.ids", PCI_IDS);
  if (!isRoot) files.deny("/boot/config-6.12.0");
}

const PCI_IDS = `# A small one
144d  Samsung Electronics Co Ltd
\ta824  NVMe SSD Controller PM173X
\t\t144d a801  PM1733
15b3  Mellanox Technologies
\t101b  MT28908 Family [ConnectX-6]
8086  Intel Corporation
C 01  Mass storage controller
\t08  Non-Volatile memory controller
`;
