import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../../testing/planner-machine.ts";
import { COLLECTION, recordedMachine, shippedMachine } from "../../../testing/recorded.ts";
import { formatBdf } from "../../core/index.ts";
import {
  type HostFacts,
  type Machine,
  type PciFunction,
  setCommand,
  setHost,
} from "../../machine/index.ts";
import { doctorJson } from "../doctor-text.ts";
import { examine, renderDoctor, type Use } from "../index.ts";

const MIB = 2 ** 20;

/** The results of one use, by id; the first of each. */
function check(machine: Machine, use: Use) {
  const [report] = examine(machine, [use]).uses;
  return {
    state: report.state,
    ids: report.results.map(({ id }) => id),
    of: (id: string) => report.results.find((result) => result.id === id),
  };
}

const CONFIG = Object.fromEntries(
  ["PCI_P2PDMA", "ZONE_DEVICE", "MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "SPARSEMEM_VMEMMAP"].map(
    (symbol) => [symbol, "y"],
  ),
);

/** Everything that a dump can tell is right. */
const HOST: HostFacts = {
  kernelVersion: "6.19.0",
  kernelConfig: { ...CONFIG, DMA_SHARED_BUFFER: "y", NVME_TARGET: "m", NVME_TARGET_RDMA: "m" },
  kernelCommandLine: "iommu=pt nvme_core.multipath=N",
  modules: ["nvidia", "nvmet_rdma"],
  iommu: "passthrough",
};

const change = (machine: Machine, bdf: number, edit: Partial<PciFunction>): Machine => ({
  ...machine,
  functions: machine.functions.map((fn) => (fn.bdf === bdf ? { ...fn, ...edit } : fn)),
});

describe("doctor", () => {
  const plain = plannerMachine();
  const machine = setHost(plain.machine, HOST);

  it("puts the first failing check on top, then what is not known", () => {
    const shut = setCommand(setHost(machine, { iommu: "strict" }), plain.gpu, 0x4);
    const { results, state } = examine(shut, ["gds"]).uses[0];
    expect(state).toBe("fail");
    const states = results.map((result) => result.state);
    expect(states).toEqual(
      [...states].sort(
        (a, b) => ["fail", "unknown", "ok"].indexOf(a) - ["fail", "unknown", "ok"].indexOf(b),
      ),
    );
    expect(results.filter((one) => one.state === "fail").map(({ id }) => id)).toEqual([
      "bar-size",
      "command",
      "iommu",
    ]);
    expect(results.every((one) => one.state === "ok" || one.remedy !== null)).toBe(true);
  });

  it("says only that devices are missing where they are", () => {
    const { functions } = plain.machine;
    const none = { ...plain.machine, functions: functions.filter(({ bdf }) => bdf !== plain.gpu) };
    const result = check(
      { ...none, functions: none.functions.filter((fn) => fn.bdf !== plain.audio) },
      "gdr",
    );
    expect(result.ids).toEqual(["devices"]);
    expect(result.of("devices")?.evidence).toBe("there is no GPU in the dump");
  });

  it("checks version, configuration and modules of the kernel, each use its own", () => {
    expect(check(machine, "gds").of("kernel-version")?.state).toBe("ok");
    const old = setHost(machine, { kernelVersion: "5.15.0", modules: ["nvidia"] });
    expect(check(old, "gds").of("kernel-version")?.state).toBe("fail");
    expect(check(old, "gds").of("modules")?.evidence).toMatch(/nvidia_fs is not loaded/);
    expect(check(old, "gdr").of("kernel-version")?.state).toBe("ok");
    const without = setHost(machine, { kernelConfig: { ...CONFIG, PCI_P2PDMA: "n" } });
    expect(check(without, "gds").of("kernel-config")).toMatchObject({
      state: "fail",
      evidence: "CONFIG_PCI_P2PDMA is not set: peer-to-peer DMA itself",
    });
    const amd = change(without, plain.gpu, { vendorId: 0x1002 });
    const [report] = examine(amd, ["gdr"]).uses;
    const missing = report.results.filter(({ id }) => id === "kernel-config");
    expect(missing.map(({ evidence }) => evidence.split(" ")[0])).toEqual([
      "CONFIG_PCI_P2PDMA",
      "CONFIG_DMA_SHARED_BUFFER",
      "CONFIG_DMABUF_MOVE_NOTIFY",
      "CONFIG_HSA_AMD_P2P",
    ]);
  });

  it("names the port whose ACS makes a detour, with the line that changes least", () => {
    const redirected = plannerMachine({ acs: 0x1d });
    const result = check(setHost(redirected.machine, HOST), "gds").of("acs");
    expect(result).toMatchObject({ state: "fail" });
    expect(result?.evidence).toContain(`${formatBdf(redirected.gpuPort)} RR CR`);
    expect(result?.command).toMatch(/^setpci -s /);
    expect(check(machine, "gds").of("acs")?.state).toBe("ok");
  });

  it("refuses what no rule permits, and warns of root complexes that are known", () => {
    const { of } = check(machine, "gdr");
    expect(of("route")).toMatchObject({ state: "fail" });
    expect(of("route")?.command).toMatch(/^peerlane explain/);
    const client = plannerMachine({ rootIds: [0x8086, 0xa700] });
    const forced = setHost(client.machine, { ...HOST, cpuVendor: "AuthenticAMD", cpuFamily: 25 });
    expect(check(forced, "gdr").of("proven")).toMatchObject({ state: "fail" });
    expect(check(forced, "gdr").of("proven")?.evidence).toMatch(/^reads: Intel client CPUs/);
  });

  it("looks at the BAR: resizable, small, unassigned", () => {
    expect(check(machine, "gdr").of("bar-size")?.evidence).toMatch(/256 MiB: only so much/);
    const resizable = [
      { index: 2, currentBytes: 256 * MIB, supportedBytes: [256 * MIB, 16384 * MIB] },
    ];
    const rebar = check(change(machine, plain.gpu, { resizableBars: resizable }), "gdr");
    expect(rebar.of("bar-size")).toMatchObject({
      state: "fail",
      command: `echo 14 > /sys/bus/pci/devices/${formatBdf(plain.gpu)}/resource2_resize`,
    });
    const none = check(change(machine, plain.gpu, { bars: [] }), "gdr").of("bar-size");
    expect(none?.remedy).toMatch(/Above 4G/);
  });

  it("tells what the CMB is, as far as a dump can", () => {
    expect(check(machine, "nvmeof-cmb").of("cmb")?.state).toBe("unknown");
    const published = { p2pmem: { sizeBytes: 16 * MIB, published: true } };
    const good = check(change(machine, plain.disk, published), "nvmeof-cmb");
    expect(good.of("cmb")).toMatchObject({ state: "ok" });
    const hidden = { p2pmem: { sizeBytes: 16 * MIB, published: false } };
    expect(check(change(machine, plain.disk, hidden), "nvmeof-cmb").of("cmb")?.evidence).toMatch(
      /RDS and WDS/,
    );
    const bare = shippedMachine("hgx-h100-gpud.vvv.txt");
    expect(check(bare, "nvmeof-cmb").of("cmb")).toMatchObject({ state: "fail" });
  });

  it("sees multipath, stacking, and parameters that name nothing", () => {
    expect(check(machine, "gds").of("nvme-multipath")?.state).toBe("ok");
    const line = "nvme_core.multipath=Y pci=noats,disable_acs_redir=0000:19:01.0;pci:0000:00:00.0";
    const on = setHost(machine, { kernelCommandLine: line, modules: ["nvidia", "raid0"] });
    expect(check(on, "nvmeof-cmb").of("nvme-multipath")?.state).toBe("fail");
    expect(check(on, "gds").of("stacking")?.evidence).toMatch(/^loaded: raid0/);
    expect(check(on, "gds").of("acs-parameters")?.evidence).toMatch(
      /names 0000:19:01.0, which is not in the machine/,
    );
  });

  it("wants the opposite for VFIO: an IOMMU, and groups of one", () => {
    const off = check(setHost(machine, { iommu: "off" }), "vfio");
    expect(off.of("iommu")).toMatchObject({ state: "fail" });
    const grouped = {
      ...machine,
      functions: machine.functions.map((fn) => ({ ...fn, iommuGroup: 7 })),
    };
    expect(check(grouped, "vfio").of("groups")?.evidence).toMatch(/shares group 7 with/);
    const old = check(setHost(machine, { kernelVersion: "6.12.0" }), "vfio");
    expect(old.of("kernel-version")?.evidence).toMatch(/without it iommufd cannot map .*EFAULT/);
    expect(off.of("devices")?.evidence).toBe("4 of interest");
  });

  it("sees links that run below what both ends can", () => {
    const { pcie } = plain.machine.functions.find(({ bdf }) => bdf === plain.diskPort)!;
    const slow = { pcie: { ...pcie!, link: { generation: 3, width: 2 } } };
    const result = check(change(machine, plain.diskPort, slow), "gds").of("links");
    expect(result?.evidence).toMatch(/gen3 x2, could be gen4 x4/);
  });

  it("never takes what the dump does not tell for a fault", () => {
    const noBars = { bars: [], unknown: [{ field: "bars", consequence: "" }] };
    const blind = change(change(machine, plain.gpu, noBars), plain.disk, noBars);
    expect(check(blind, "gds").of("bar-size")).toMatchObject({ state: "unknown" });
    const disks = { ...blind, functions: blind.functions.map((fn) => ({ ...fn, ...noBars })) };
    expect(check(disks, "nvmeof-cmb").of("cmb")).toMatchObject({ state: "unknown" });
    expect(check(change(machine, plain.gpu, { bars: [] }), "gds").of("bar-size")).toMatchObject({
      state: "fail",
    });
  });

  it("gives lines to paste that name the machine as it was given", () => {
    const [{ results }] = examine(machine, ["gdr"], undefined, "-m a.txt --kernel 6.12").uses;
    const route = results.find(({ id }) => id === "route");
    expect(route?.command).toMatch(/^peerlane explain \S+ \S+ -m a\.txt --kernel 6\.12$/);
  });

  it("is text and JSON", () => {
    const report = examine(shippedMachine("hgx-h100-gpud.vvv.txt"), ["gds", "vfio"]);
    const text = renderDoctor(report);
    expect(text).toMatch(/GPUDirect Storage.*may be ready/);
    for (const line of text.split("\n")) {
      // Lines to paste are not cut.
      if (!/grep|options/.test(line)) expect(line.length).toBeLessThan(110);
    }
    expect(JSON.parse(JSON.stringify(doctorJson(report))).uses).toHaveLength(2);
  });

  it("finds the multipath and the virtual machine of a recorded one", (context) => {
    if (COLLECTION === null) return context.skip("no recordings");
    const recorded = recordedMachine(`${COLLECTION}/truth/16-multifunction-iommu-noredir`);
    const { of } = check(recorded, "vfio");
    expect(of("acs-parameters")?.state).toBe("ok");
    expect(of("virtual-machine")?.evidence).toMatch(/this is a guest/);
  });
});
