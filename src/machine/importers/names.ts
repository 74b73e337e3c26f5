/**
 * Names that lspci prints without -nn, and the ids behind them. Only vendors whose functions matter
 * to peer-to-peer or recur in servers, and the devices that represent a root bus in Linux's host
 * bridge list (drivers/pci/p2pdma.c). Names are facts of the PCI ID database, 2018 to 2023.
 *
 * Leaves out: everything else; dumps taken with -nn need none of this.
 */

/** Longest names first decide, so that `Broadcom / LSI` is not taken for `Broadcom`. */
const VENDORS: Readonly<Record<string, number>> = {
  "Intel Corporation": 0x8086,
  "Advanced Micro Devices, Inc. [AMD/ATI]": 0x1002,
  "Advanced Micro Devices, Inc. [AMD]": 0x1022,
  "Advanced Micro Devices [AMD] nee ATI": 0x1002,
  "ATI Technologies Inc": 0x1002,
  "NVIDIA Corporation": 0x10de,
  "nVidia Corporation": 0x10de,
  "Mellanox Technologies": 0x15b3,
  "Broadcom / LSI": 0x1000,
  "LSI Logic / Symbios Logic": 0x1000,
  "Broadcom Inc. and subsidiaries": 0x14e4,
  "Broadcom Limited": 0x14e4,
  "PLX Technology, Inc.": 0x10b5,
  "PMC-Sierra Inc.": 0x11f8,
  "Microsemi / PMC / IDT": 0x11f8,
  "Integrated Device Technology, Inc. [IDT]": 0x111d,
  "Microchip Technology": 0x1055,
  "Astera Labs, Inc.": 0x1dee,
  "XConn Technologies": 0x1e98,
  "Texas Instruments": 0x104c,
  "ASMedia Technology Inc.": 0x1b21,
  "Pericom Semiconductor": 0x12d8,
  "Renesas Technology Corp.": 0x1912,
  "ASPEED Technology, Inc.": 0x1a03,
  "Matrox Electronics Systems Ltd.": 0x102b,
  "Realtek Semiconductor Co., Ltd.": 0x10ec,
  "Samsung Electronics Co Ltd": 0x144d,
  "Micron Technology Inc": 0x1344,
  "Micron/Crucial Technology": 0xc0a9,
  "SK hynix": 0x1c5c,
  Solidigm: 0x025e,
  "KIOXIA Corporation": 0x1e0f,
  "Toshiba Corporation": 0x1179,
  "Sandisk Corp": 0x15b7,
  "Western Digital": 0x1b96,
  "Seagate Technology PLC": 0x1bb1,
  "Phison Electronics Corporation": 0x1987,
  "Kingston Technology Company, Inc.": 0x2646,
  "Silicon Motion, Inc.": 0x126f,
  "Eideticom, Inc": 0x1de5,
  "ScaleFlux Inc.": 0x1dfd,
  "Pensando Systems": 0x1dd8,
  "AMD Pensando Systems": 0x1dd8,
  "Solarflare Communications": 0x1924,
  "Chelsio Communications Inc": 0x1425,
  "QLogic Corp.": 0x1077,
  "Cavium, Inc.": 0x177d,
  "Marvell Technology Group Ltd.": 0x1b4b,
  "Emulex Corporation": 0x10df,
  "Netronome Systems, Inc.": 0x19ee,
  "Xilinx Corporation": 0x10ee,
  "Altera Corporation": 0x1172,
  "Habana Labs Ltd.": 0x1da3,
  "Google, Inc.": 0x1ae0,
  "Amazon.com, Inc.": 0x1d0f,
  "Microsoft Corporation": 0x1414,
  "Red Hat, Inc.": 0x1b36,
  "Huawei Technologies Co., Ltd.": 0x19e5,
  Zhaoxin: 0x1d17,
  "Chengdu Haiguang IC Design Co., Ltd.": 0x1d94,
  "Ampere Computing, LLC": 0x1def,
  IBM: 0x1014,
  "Hewlett-Packard Company": 0x103c,
  "Hewlett Packard Enterprise": 0x1590,
  Dell: 0x1028,
  "Aquantia Corp.": 0x1d6a,
  "VIA Technologies, Inc.": 0x1106,
  "Freescale Semiconductor Inc": 0x1957,
  "Qualcomm Atheros": 0x168c,
};

const vendorsLongestFirst = Object.keys(VENDORS).sort((a, b) => b.length - a.length);
/** Vendors whose functions recur by the hundred; tried before the whole list. */
const COMMON_VENDORS = ["Intel Corporation", "Advanced Micro Devices, Inc. [AMD]"];

/** Device names by vendor, of functions that stand for a root bus or that QEMU makes. */
const DEVICES: Readonly<Record<string, readonly [number, number]>> = {
  "Xeon E5/Core i7 DMI2": [0x8086, 0x3c00],
  "Xeon E5/Core i7 DMI2 in PCI Express Mode": [0x8086, 0x3c01],
  "Xeon E7 v3/Xeon E5 v3/Core i7 DMI2": [0x8086, 0x2f00],
  "Xeon E7 v3/Xeon E5 v3/Core i7 PCI Express Root Port 0": [0x8086, 0x2f01],
  "Xeon E7 v4/Xeon E5 v4/Xeon E3 v4/Xeon D DMI2": [0x8086, 0x6f00],
  "Sky Lake-E DMI3 Registers": [0x8086, 0x2020],
  "Sky Lake-E PCI Express Root Port A": [0x8086, 0x2030],
  "Sky Lake-E PCI Express Root Port B": [0x8086, 0x2031],
  "Sky Lake-E PCI Express Root Port C": [0x8086, 0x2032],
  "Sky Lake-E PCI Express Root Port D": [0x8086, 0x2033],
  "Ice Lake Memory Map/VT-d": [0x8086, 0x09a2],
  "Family 17h (Models 00h-0fh) Root Complex": [0x1022, 0x1450],
  "Raven/Raven2 Root Complex": [0x1022, 0x15d0],
  "Renoir/Cezanne Root Complex": [0x1022, 0x1630],
  "Renoir Root Complex": [0x1022, 0x1630],
  "Starship/Matisse Root Complex": [0x1022, 0x1480],
  "MT27800 Family [ConnectX-5]": [0x15b3, 0x1017],
  "MT27800 Family [ConnectX-5 Virtual Function]": [0x15b3, 0x1018],
  "MT2892 Family [ConnectX-6 Dx]": [0x15b3, 0x101d],
  "MT2910 Family [ConnectX-7]": [0x15b3, 0x1021],
  "QEMU PCIe Root port": [0x1b36, 0x000c],
  "QEMU NVM Express Controller": [0x1b36, 0x0010],
  "QEMU PCIe Expander bridge": [0x1b36, 0x000b],
  "QEMU PCI Expander bridge": [0x1b36, 0x0009],
};

/** What a name tells. Ids are null where this table does not know. */
export interface NamedDevice {
  readonly vendorName: string | null;
  readonly deviceName: string | null;
  readonly vendorId: number | null;
  readonly deviceId: number | null;
}

function vendorOf(text: string): string | null {
  const isPrefix = (name: string): boolean =>
    text.startsWith(name) && (text.length === name.length || text[name.length] === " ");
  return COMMON_VENDORS.find(isPrefix) ?? vendorsLongestFirst.find(isPrefix) ?? null;
}

/** Red Hat has two ids: virtio devices have the older one. */
const RED_HAT_VIRTIO = 0x1af4;

function vendorIdOf(vendorName: string | null, deviceName: string): number | null {
  if (vendorName === null) return null;
  const isVirtio = vendorName === "Red Hat, Inc." && deviceName.startsWith("Virtio");
  return isVirtio ? RED_HAT_VIRTIO : (VENDORS[vendorName] as number);
}

/**
 * Splits `Intel Corporation Device 09a2` into vendor and device. Without a vendor that the table
 * knows, all of it is the device's name.
 */
export function splitName(text: string): NamedDevice {
  const vendorName = vendorOf(text);
  const deviceName = vendorName === null ? text : text.slice(vendorName.length + 1);
  const numbered = /^Device (?:([0-9a-f]{4}):)?([0-9a-f]{4})$/i.exec(deviceName);
  if (numbered !== null) {
    const vendor = numbered[1];
    const vendorId =
      vendor === undefined ? vendorIdOf(vendorName, deviceName) : Number.parseInt(vendor, 16);
    return {
      vendorName,
      deviceName,
      vendorId,
      deviceId: Number.parseInt(numbered[2] as string, 16),
    };
  }
  const device = vendorName === null ? undefined : DEVICES[deviceName];
  return {
    vendorName,
    deviceName: deviceName === "" ? null : deviceName,
    vendorId: device?.[0] ?? vendorIdOf(vendorName, deviceName),
    deviceId: device?.[1] ?? null,
  };
}

/** Reversed, so that the first, newest name of a vendor wins. */
const vendorNames = new Map([
  [0x1af4, "Red Hat, Inc."],
  ...Object.entries(VENDORS)
    .toReversed()
    .map(([name, id]): [number, string] => [id, name]),
]);

/** The name of a vendor that this table knows; null for others. */
export function vendorNameOf(vendorId: number): string | null {
  return vendorNames.get(vendorId) ?? null;
}
