import { describe, expect, test } from "vitest";
import {
  fakeSysfs,
  NVME_BAR_BUS,
  NVME_BAR_BYTES,
  SERIAL_NUMBER,
} from "../../testing/fake-sysfs.ts";
import { formatBdf, parseBdf } from "../core/index.ts";
import { type DirectoryEntry, type Files, realFiles } from "../platform/index.ts";
import { captureMachine } from "./capture.ts";
import { serializeMachine } from "./machine-json-write.ts";
import { isUnknown, type Machine, type PciFunction, PortType } from "./snapshot.ts";

const at = (machine: Machine, bdf: string): PciFunction =>
  machine.functions.find((fn) => fn.bdf === parseBdf(bdf)) as PciFunction;

describe("as root", () => {
  test("tells registers, resources, IOMMU, NUMA, peer memory, names and the host", async () => {
    const machine = await captureMachine(fakeSysfs());
    expect(machine.name).toBe("Contoso Server 9000");
    expect(machine.warnings).toEqual([]);
    expect(machine.functions.map((fn) => formatBdf(fn.bdf))).toEqual([
      "0000:00:01.0",
      "0000:00:02.0",
      "0000:01:00.0",
      "0000:02:00.0",
      "0000:02:00.1",
    ]);
    const nvme = at(machine, "01:00.0");
    expect(nvme).toMatchObject({
      vendorName: "Samsung Electronics Co Ltd",
      deviceName: "NVMe SSD Controller PM173X",
      numaNode: 1,
      iommuGroup: 2,
      iommuDomain: "DMA-FQ",
      driver: "x",
      physicalSlot: "5",
      kernelNames: ["nvme0", "nvme0n1"],
      p2pmem: { sizeBytes: NVME_BAR_BYTES / 2, published: true },
      bars: [{ index: 0, address: NVME_BAR_BUS, sizeBytes: NVME_BAR_BYTES, enabled: true }],
    });
    expect(nvme.unknown).toEqual([]);
    expect(at(machine, "00:01.0")).toMatchObject({
      numaNode: null,
      acs: { offset: 0x120, control: 0x1d },
      pcie: { portType: PortType.rootPort },
    });
    expect(at(machine, "02:00.1").physicalFunction).toBe(parseBdf("02:00.0"));
    expect(machine.host).toMatchObject({
      cpuVendor: "GenuineIntel",
      cpuFamily: 6,
      kernelVersion: "6.12.0",
      iommu: "strict",
      modules: ["nvme"],
      kernelConfig: { PCI_P2PDMA: "y" },
      ram: [{ base: 0x1000, limit: 0x7fffffff }],
      unknown: [],
    });
    expect(machine.hostBridges).toEqual([
      {
        domain: 0,
        bus: 0,
        busEnd: 2,
        apertures: [{ phys: NVME_BAR_BUS, bus: NVME_BAR_BUS, sizeBytes: 2 ** 36 }],
        numaNode: null,
      },
    ]);
  });

  test("a shifted aperture shows in the addresses of BARs", async () => {
    const offset = 256 * 2 ** 30;
    const machine = await captureMachine(fakeSysfs({ offset }));
    // BARs are bus addresses; the aperture tells where the CPU sees them.
    expect(at(machine, "01:00.0").bars[0]?.address).toBe(NVME_BAR_BUS);
    expect(machine.hostBridges[0]?.apertures).toEqual([
      { phys: NVME_BAR_BUS + offset, bus: NVME_BAR_BUS, sizeBytes: 2 ** 36 },
    ]);
    expect(machine.warnings.join()).toMatch(/differ from the CPU's/);
  });

  test.each([
    ["identity", "passthrough"],
    ["DMA-FQ", "strict"],
    [null, "off"],
  ] as const)("domains of type %s are mode %s", async (iommu, mode) => {
    expect((await captureMachine(fakeSysfs({ iommu }))).host.iommu).toBe(mode);
  });
});

describe("without root", () => {
  test("says what was hidden, and marks it unknown", async () => {
    const machine = await captureMachine(fakeSysfs({ configBytes: 64, isRoot: false }));
    expect(machine.warnings.join("\n")).toMatch(/configuration space of 5 functions is cut to 64/);
    expect(machine.warnings.join("\n")).toMatch(/iomem shows zeros/);
    expect(machine.warnings.join("\n")).toMatch(/permission denied for 1 files \(config-6.12.0\)/);
    const port = at(machine, "00:01.0");
    expect(isUnknown(port, "acs")).toBe(true);
    // Port type and link are still known, from the place and from sysfs.
    expect(port.pcie).toMatchObject({
      portType: PortType.rootPort,
      link: { generation: 4, width: 16 },
    });
    expect(isUnknown(port, "pcie.portType")).toBe(true);
    // RAM comes from memory blocks then: 0 and 1 are neighbours.
    expect(machine.host.ram).toEqual([
      { base: 0, limit: 0x0fffffff },
      { base: 0x20000000, limit: 0x27ffffff },
    ]);
    expect(machine.host.kernelConfig).toBeNull();
  });
});

describe("what must not leave the machine", () => {
  test("serial numbers, MAC addresses, GUIDs and UUIDs are not in the capture", async () => {
    const machine = await captureMachine(fakeSysfs());
    const text = serializeMachine(machine);
    for (const secret of ["SN1234567890", "SERIAL-777", "00:11:22", "enx00", "0011:2233", "eui."]) {
      expect(text).not.toContain(secret);
    }
    expect(machine.host.kernelCommandLine).toBe("root=/dev/sda intel_iommu=on BOOTIF=REDACTED");
    for (const { config } of machine.functions) {
      expect([...(config as Uint8Array).subarray(0x104, 0x10c)]).not.toEqual(SERIAL_NUMBER);
      expect([...(config as Uint8Array).subarray(0x44, 0x48)]).toEqual([0, 0, 0, 0]);
    }
  });

  test("the files that hold them are not even opened, and nothing is written", async () => {
    const opened: string[] = [];
    await captureMachine(watched(fakeSysfs(), opened));
    const secret = /\/(?:vpd|address|node_guid|wwid|serial|product_serial)$/;
    // `address` of a slot is a PCI address.
    const bad = opened.filter((path) => secret.test(path) && !path.includes("/slots/"));
    expect(bad).toEqual([]);
  });
});

/** Files that note what is read and refuse to write. */
function watched(files: Files, opened: string[]): Files {
  return {
    readBytes: (path, limit) => {
      opened.push(path);
      return files.readBytes(path, limit);
    },
    readText: (path, limit) => {
      opened.push(path);
      return files.readText(path, limit);
    },
    list: (path): Promise<DirectoryEntry[]> => files.list(path),
    readLink: (path) => files.readLink(path),
    write: () => Promise.reject(new Error("capture writes")),
    replace: () => Promise.reject(new Error("capture writes")),
  };
}

test("this machine, for real", async (context) => {
  const entries = await realFiles.list("/sys/bus/pci/devices").catch(() => []);
  if (entries.length === 0) context.skip("no /sys/bus/pci/devices here");
  const machine = await captureMachine(realFiles);
  expect(machine.functions).toHaveLength(entries.length);
  expect(machine.host.kernelVersion).toMatch(/^\d+\.\d+/);
});

test("where there is no PCI it says so", async () => {
  await expect(captureMachine(fakeSysfs(), { root: "/nowhere" })).rejects.toMatchObject({
    code: "no-pci-tree",
  });
});
