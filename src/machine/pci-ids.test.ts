import { expect, test } from "vitest";
import { parseBdf } from "../core/index.ts";
import { MemoryFiles } from "../platform/index.ts";
import { sparseFunction } from "./importers/sparse.ts";
import { readSystemPciIds, scanPciIds, withNames } from "./pci-ids.ts";
import { isUnknown, type Machine, type PciFunction, UNKNOWN_HOST } from "./snapshot.ts";

const IDS = `#
# Date: 2023-04-11
144d  Samsung Electronics Co Ltd
\ta824  NVMe SSD Controller PM173X
\t\t144d a801  PM1733 U.2
\ta80a  NVMe SSD Controller PM9A1
15b3  Mellanox Technologies
\t1017  MT27800 Family [ConnectX-5]
\t1018  Twin
\t1019  Twin
C 01  Mass storage controller
\t08  Non-Volatile memory controller
`;

const fn = (facts: Partial<PciFunction>): PciFunction =>
  sparseFunction({ bdf: parseBdf("01:00.0"), ...facts }, "test");
const machine = (...functions: PciFunction[]): Machine => ({
  name: "m",
  sources: [],
  host: UNKNOWN_HOST,
  hostBridges: [],
  functions,
  warnings: [],
});
const named = (text: string, facts: Partial<PciFunction>): PciFunction => {
  const plain = machine(fn(facts));
  return withNames(plain, scanPciIds(text, plain.functions)).functions[0];
};

test("numbers get names", () => {
  expect(named(IDS, { vendorId: 0x144d, deviceId: 0xa824 })).toMatchObject({
    vendorName: "Samsung Electronics Co Ltd",
    deviceName: "NVMe SSD Controller PM173X",
  });
});

test("names get numbers, unless two devices have the same name", () => {
  const known = named(IDS, {
    vendorName: "Mellanox Technologies",
    deviceName: "MT27800 Family [ConnectX-5]",
  });
  expect(known).toMatchObject({ vendorId: 0x15b3, deviceId: 0x1017 });
  expect(isUnknown(known, "deviceId")).toBe(false);
  const twin = named(IDS, { vendorName: "Mellanox Technologies", deviceName: "Twin" });
  expect(isUnknown(twin, "deviceId")).toBe(true);
});

test("names of the source are kept, unknown devices are told by number", () => {
  const own = { vendorId: 0x144d, deviceId: 0xa824, vendorName: "S", deviceName: "D" };
  expect(named(IDS, own)).toMatchObject({ vendorName: "S", deviceName: "D" });
  expect(named(IDS, { vendorId: 0x144d, deviceId: 0x0001 }).deviceName).toBe("Device 0001");
});

test("without a database the small table names vendors", async () => {
  const plain = machine(fn({ vendorId: 0x10de, deviceId: 0x20b0 }));
  const ids = await readSystemPciIds(new MemoryFiles(), plain.functions);
  expect(withNames(plain, ids).functions[0]).toMatchObject({
    vendorName: "NVIDIA Corporation",
    deviceName: "Device 20b0",
  });
});

test("both places of distributions are looked at; damage does no harm", async () => {
  const files = new MemoryFiles().addFile("/usr/share/hwdata/pci.ids", IDS);
  const { functions } = machine(fn({ vendorId: 0x144d, deviceId: 0xa80a }));
  expect((await readSystemPciIds(files, functions)).devices.size).toBe(1);
  for (let end = 0; end < IDS.length; end += 7) scanPciIds(IDS.slice(0, end), functions);
});
