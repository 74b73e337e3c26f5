import { describe, expect, test } from "vitest";
import { formatBdf, parseBdf } from "../../core/index.ts";
import { assembleMachine } from "../assemble.ts";
import { isUnknown, type Machine, PortType } from "../snapshot.ts";
import { MachineIndex, NONE } from "../tree.ts";
import { parseNccl } from "./nccl.ts";

const GPU = 'class="0x030200" vendor="0x10de" device="0x20b0" link_speed="16.0 GT/s PCIe"';
const NIC = 'class="0x020700" vendor="0x15b3" device="0x101b" link_speed="16.0 GT/s PCIe"';
const SWITCH = 'class="0x060400" vendor="0x1000" device="0xc010" link_speed="16.0 GT/s PCIe"';
const VIRTUAL = 'class="0x060400" vendor="0xffff" device="0xffff" link_speed="8 GT/s"';
const pci = (bdf: string, attributes: string, body = ""): string =>
  `<pci busid="${bdf}" ${attributes} link_width="16">${body}</pci>`;
const cpu = (numa: number, body: string, family = 143): string =>
  `<cpu numaid="${numa}" arch="x86_64" vendor="AuthenticAMD" familyid="${family}">${body}</cpu>`;
const read = (body: string): Machine =>
  assembleMachine([parseNccl(`<system version="1">${body}</system>`, "topo.xml")]);

/** Bridges from a function up, by name and kind. */
function pathOf(machine: Machine, bdf: string): string[] {
  const index = new MachineIndex(machine);
  const names: string[] = [];
  for (let at = index.parentOf(index.requireIndex(parseBdf(bdf))); at !== NONE; ) {
    const fn = index.functions[at];
    const mark = isUnknown(fn, "bdf") ? "*" : "";
    names.push(`${formatBdf(fn.bdf)}${mark} ${fn.pcie?.portType}`);
    at = index.parentOf(at);
  }
  return names;
}

test("ports that NCCL leaves out are put back: two under one switch are 4 apart", () => {
  const machine = read(
    cpu(0, pci("0000:41:00.0", SWITCH, pci("0000:45:00.0", GPU) + pci("0000:48:00.0", NIC))),
  );
  expect(pathOf(machine, "45:00.0")).toEqual([
    `0000:42:00.0* ${PortType.switchDownstream}`,
    `0000:41:00.0 ${PortType.switchUpstream}`,
    `0000:40:01.0* ${PortType.rootPort}`,
  ]);
  expect(pathOf(machine, "48:00.0")[0]).toBe(`0000:42:01.0* ${PortType.switchDownstream}`);
  expect(machine.warnings.join()).toMatch(/1 root ports and 2 downstream ports were added/);
  // CPUID packs family 23 as 143.
  expect(machine.host).toMatchObject({ cpuVendor: "AuthenticAMD", cpuFamily: 23 });
});

test("functions of one device share a root port; NUMA nodes get root buses of their own", () => {
  const machine = read(
    cpu(0, pci("0000:18:00.0", NIC) + pci("0000:18:00.1", NIC) + pci("0000:3b:00.0", GPU)) +
      cpu(1, pci("0000:b1:00.0", GPU)),
  );
  expect(pathOf(machine, "18:00.0")).toEqual(pathOf(machine, "18:00.1"));
  expect(machine.hostBridges).toMatchObject([
    { bus: 0x17, busEnd: 0x3b, numaNode: 0 },
    { bus: 0xb0, busEnd: 0xb1, numaNode: 1 },
  ]);
});

test("the highest speed is taken for the trained one, and said so", () => {
  const machine = read(cpu(0, pci("0000:01:00.0", GPU)));
  const gpu = machine.functions.find((fn) => fn.vendorId === 0x10de);
  expect(gpu?.pcie?.link).toEqual({ generation: 4, width: 16 });
  expect(gpu?.unknown.find(({ field }) => field === "pcie.link")?.consequence).toMatch(/highest/);
});

describe("virtual trees of cloud providers", () => {
  test("switches that cannot exist get names that can, and it is told", () => {
    const below = pci("0000:10:1c.0", GPU) + pci("0000:10:1b.0", NIC);
    const machine = read(cpu(0, pci("ffff:ff:01.0", VIRTUAL, below)));
    expect(pathOf(machine, "10:1c.0")).toEqual(pathOf(machine, "10:1b.0"));
    expect(machine.warnings.join()).toMatch(/ffff:ff:01.0 is 0000:0e:00.0/);
  });

  test("a switch over several domains is left out, its functions stand alone", () => {
    const below = pci("0001:00:00.0", GPU) + pci("0101:00:00.0", NIC);
    const machine = read(cpu(0, pci("ffff:ff:01.0", VIRTUAL, below)));
    expect(machine.functions).toHaveLength(2);
    expect(machine.hostBridges).toHaveLength(2);
    expect(machine.warnings.join()).toMatch(/join functions of several domains/);
  });
});

test("impossible bus numbers are told and lead to no loop", () => {
  const machine = read(
    cpu(0, pci("0000:2e:00.0", SWITCH, pci("0000:1d:00.0", NIC) + pci("0000:32:00.0", GPU))),
  );
  expect(new MachineIndex(machine).problems).toEqual([]);
  expect(machine.warnings.join()).toMatch(/0000:1d:00.0: below a switch whose bus number/);
});

test("network interfaces outside PCI are counted, private names are left out", () => {
  const net = (name: string): string => `<nic><net name="${name}" dev="0"/></nic>`;
  const machine = read(
    cpu(0, net("eth9") + pci("0000:18:00.0", NIC, net("enx0123456789ab") + net("mlx5_0"))),
  );
  expect(machine.functions.find((fn) => fn.vendorId === 0x15b3)?.kernelNames).toEqual(["mlx5_0"]);
  expect(machine.warnings.join()).toMatch(/1 network interfaces .* are not PCI devices/);
  expect(machine.warnings.join()).not.toMatch(/0123456789ab/);
});

test("without devices there is no machine", () => {
  expect(() => read(cpu(0, ""))).toThrow(expect.objectContaining({ code: "no-pci-tree" }));
});
