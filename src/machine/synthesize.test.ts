import { describe, expect, it } from "vitest";
import { shippedMachine } from "../../testing/recorded.ts";
import { factsFromConfig } from "./config-facts.ts";
import { deviceKind, isUnknown, type PciFunction, synthesizeConfig } from "./index.ts";

const MACHINES = [
  "01-same-switch",
  "02-two-root-ports",
  "08-pxb-two-host-bridges",
  "hgx-h100-gpud.vvv.txt",
];

const FIELDS = ["classCode", "revision", "headerType", "pcie", "msix", "ats", "aerOffset"] as const;

/** BARs as their registers can tell them. */
const registers = (bars: PciFunction["bars"]) =>
  bars
    .filter(({ index, address }) => index < 6 && address !== 0)
    .map(({ index, kind, prefetchable, address, enabled }) => [
      index,
      kind,
      prefetchable,
      address,
      enabled,
    ]);

describe.each(MACHINES)("configuration space made from the facts of %s", (name) => {
  const machine = shippedMachine(name);

  it("decodes to the same facts", () => {
    for (const fn of machine.functions) {
      const back = factsFromConfig(fn.bdf, synthesizeConfig(fn));
      expect([back.vendorId, back.deviceId]).toEqual([fn.vendorId, fn.deviceId]);
      for (const field of FIELDS) {
        if (!isUnknown(fn, field)) expect(back[field], field).toEqual(fn[field]);
      }
      if (!isUnknown(fn, "command")) expect(back.command).toBe(fn.command);
      if (!isUnknown(fn, "bridge")) expect(back.bridge).toEqual(fn.bridge);
      if (!isUnknown(fn, "bars")) expect(registers(back.bars)).toEqual(registers(fn.bars));
      expect(back.resizableBars).toEqual(fn.resizableBars);
      expect(back.acs?.control).toEqual(fn.acs?.control);
      expect(back.acs?.offset).toEqual(fn.acs?.offset);
      expect(back.sriov?.bars.map(({ address }) => address)).toEqual(
        fn.sriov?.bars.map(({ address }) => address),
      );
      expect(back.sriov?.totalVfs).toEqual(fn.sriov?.totalVfs);
      expect(back.capabilities).toEqual(expect.arrayContaining([...fn.capabilities]));
    }
  });

  it("keeps every byte of a dump that has them all", () => {
    for (const fn of machine.functions) {
      if (fn.config?.length !== 4096) continue;
      expect(Buffer.from(synthesizeConfig(fn)).equals(Buffer.from(fn.config))).toBe(true);
    }
  });
});

describe("configuration space of a text-only dump", () => {
  it("has the capabilities of a GPU at their places", () => {
    const { functions } = shippedMachine("hgx-h100-gpud.vvv.txt");
    const gpu =
      functions.find((fn) => deviceKind(fn) === "gpu" && fn.resizableBars.length > 0) ??
      expect.fail("no GPU");
    expect(gpu.config).toBeNull();
    const config = synthesizeConfig(gpu);
    const back = factsFromConfig(gpu.bdf, config);
    // The size of a resizable BAR is in configuration space, so it comes back.
    const isThere = ({ index }: { index: number }) => index === 2;
    expect(back.bars.find(isThere)).toEqual(gpu.bars.find(isThere));
    expect(back.pcie).toMatchObject({ maxReadRequest: 4096, link: { generation: 5, width: 16 } });
    expect(config[0x34]).toBe(gpu.capabilities[0]?.offset);
  });
});
