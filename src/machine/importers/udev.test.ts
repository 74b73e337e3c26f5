import { expect, test } from "vitest";
import { formatBdf } from "../../core/index.ts";
import { assembleMachine } from "../assemble.ts";
import { isUnknown, type Machine, PortType } from "../snapshot.ts";
import { parseDevicePath } from "./device-path.ts";
import { parseUdevDb } from "./udev.ts";

const record = (path: string, properties: Readonly<Record<string, string>>): string =>
  [
    `P: ${path}`,
    `E: DEVPATH=${path}`,
    ...Object.entries(properties).map(([key, value]) => `E: ${key}=${value}`),
    "",
    "",
  ].join("\n");

const ROOT = "/devices/pci0000:00";
const PORT = `${ROOT}/0000:00:01.1`;
const NVME = `${PORT}/0000:01:00.0`;
const DB =
  record(ROOT, { SUBSYSTEM: "" }) +
  record(`${ROOT}/0000:00:00.0`, {
    SUBSYSTEM: "pci",
    PCI_CLASS: "60000",
    PCI_ID: "1022:1480",
    ID_MODEL_FROM_DATABASE: "Starship/Matisse Root Complex",
  }) +
  record(PORT, {
    SUBSYSTEM: "pci",
    PCI_CLASS: "60400",
    PCI_ID: "1022:1483",
    DRIVER: "pcieport",
  }) +
  record(NVME, {
    SUBSYSTEM: "pci",
    PCI_CLASS: "10802",
    PCI_ID: "144D:A824",
    PCI_SUBSYS_ID: "144D:A801",
    DRIVER: "nvme",
  }) +
  record(`${NVME}/nvme/nvme0`, { SUBSYSTEM: "nvme", ID_SERIAL_SHORT: "S4XANX0M123456" }) +
  record(`${NVME}/nvme/nvme0/nvme0n1`, { SUBSYSTEM: "block", DEVTYPE: "disk" }) +
  record(`${NVME}/nvme/nvme0/nvme0n1/nvme0n1p1`, { SUBSYSTEM: "block", DEVTYPE: "partition" }) +
  record(`${ROOT}/0000:00:03.1`, { SUBSYSTEM: "pci", PCI_CLASS: "60400", PCI_ID: "1022:1483" }) +
  record(`${ROOT}/0000:00:03.1/pci_bus/0000:41`, { SUBSYSTEM: "pci_bus" }) +
  record(`${ROOT}/0000:00:04.1`, { SUBSYSTEM: "pci", PCI_CLASS: "60400", PCI_ID: "1022:1483" });

const read = (text: string): Machine => assembleMachine([parseUdevDb(text, "udev.txt")]);

test("places, ids, drivers and what Linux calls the devices", () => {
  const machine = read(DB);
  const [bridge, port, empty, blind, nvme] = machine.functions;
  expect(machine.functions.map((fn) => formatBdf(fn.bdf))).toEqual([
    "0000:00:00.0",
    "0000:00:01.1",
    "0000:00:03.1",
    "0000:00:04.1",
    "0000:01:00.0",
  ]);
  expect(bridge).toMatchObject({
    classCode: 0x060000,
    deviceName: "Starship/Matisse Root Complex",
    driver: null,
  });
  expect(port.bridge).toMatchObject({ secondary: 1, subordinate: 1 });
  expect(port.pcie?.portType).toBe(PortType.rootPort);
  // The bus behind an empty slot is known from its own entry; without one it is not known.
  expect(empty.bridge).toMatchObject({ secondary: 0x41 });
  expect(isUnknown(blind, "bridge")).toBe(true);
  expect(nvme).toMatchObject({
    vendorId: 0x144d,
    subsystemId: 0xa801,
    classCode: 0x010802,
    driver: "nvme",
    kernelNames: ["nvme0", "nvme0n1"],
  });
  expect(isUnknown(nvme, "acs")).toBe(true);
});

test("serial numbers of the database are not in the machine", () => {
  expect(JSON.stringify(read(DB))).not.toContain("S4XANX0M123456");
});

test("without PCI devices it is refused", () => {
  expect(() => read(record("/devices/virtual/net/lo", { SUBSYSTEM: "net" }))).toThrow(
    expect.objectContaining({ code: "no-pci-tree" }),
  );
});

test("device paths: root bus, bridges, what follows, a root bus below a function", () => {
  const vmd = parseDevicePath(
    "/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/nvme/nvme1",
  );
  expect(vmd).toMatchObject({ domain: 0x10000, bus: 0xe0, rest: ["nvme", "nvme1"] });
  expect(vmd?.chain.map(formatBdf)).toEqual(["10000:e0:06.0"]);
  expect(parseDevicePath("/devices/virtual/block/dm-0")).toBeNull();
  expect(parseDevicePath("../../../devices/pci0000:00")?.chain).toEqual([]);
});
