import { expect, test } from "vitest";
import { formatBdf, parseBdf } from "../../core/index.ts";
import { assembleMachine } from "../assemble.ts";
import { isUnknown, type PciFunction, PortType } from "../snapshot.ts";
import { parseHwloc } from "./hwloc.ts";

const document = (version: string, body: string): string =>
  `<?xml version="1.0"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n<topology${version}>\n` +
  `<object type="Machine"><info name="OSRelease" value="6.1.0"/>\n` +
  `<object type="Package" nodeset="0x00000002"><info name="CPUVendor" value="AuthenticAMD"/>` +
  `<info name="CPUFamilyNumber" value="23"/>\n${body}\n</object></object></topology>\n`;

const SWITCH = `
<object type="Bridge" bridge_type="0-1" depth="0" bridge_pci="0000:[40-46]">
 <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[41-44]" pci_busid="0000:40:01.1"
   pci_type="0604 [1022:1483] [1022:1453] 00" pci_link_speed="31.507692">
  <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[42-44]" pci_busid="0000:41:00.0"
    pci_type="0604 [1000:c010] [0000:0000] b0" pci_link_speed="31.507692">
   <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[43-43]" pci_busid="0000:42:00.0"
     pci_type="0604 [1000:c010] [0000:0000] b0" pci_link_speed="7.876923">
    <object type="PCIDev" pci_busid="0000:43:00.0" pci_type="0108 [144d:a824] [144d:a801] 00"
      pci_link_speed="7.876923">
     <info name="PCISlot" value="5"/><info name="PCIVendor" value="Samsung &amp; Co"/>
     <object type="OSDev" name="nvme0n1" osdev_type="0"/>
     <object type="OSDev" name="enx0123456789ab" osdev_type="2"/>
    </object>
   </object>
  </object>
 </object>
</object>`;

const read = (text: string) => assembleMachine([parseHwloc(text, "topology.xml")]);
const at = (functions: readonly PciFunction[], bdf: string): PciFunction =>
  functions.find((fn) => fn.bdf === parseBdf(bdf)) as PciFunction;

test("bridges, ports by place, links, names, NUMA node, CPU", () => {
  const machine = read(document(' version="2.0"', SWITCH));
  const { functions } = machine;
  expect(functions.map((fn) => formatBdf(fn.bdf))).toEqual([
    "0000:40:01.1",
    "0000:41:00.0",
    "0000:42:00.0",
    "0000:43:00.0",
  ]);
  expect(functions.map((fn) => fn.pcie?.portType)).toEqual([
    PortType.rootPort,
    PortType.switchUpstream,
    PortType.switchDownstream,
    PortType.endpoint,
  ]);
  expect(at(functions, "41:00.0").bridge).toMatchObject({ secondary: 0x42, subordinate: 0x44 });
  const nvme = at(functions, "43:00.0");
  expect(nvme).toMatchObject({
    // The programming interface is not told; only NVM Express is in use there.
    classCode: 0x010802,
    vendorName: "Samsung & Co",
    physicalSlot: "5",
    numaNode: 1,
    // A name made of a MAC address is left out.
    kernelNames: ["nvme0n1"],
  });
  // The rate of gen4 x4 and gen3 x8 is the same, and it is said that only the rate is told.
  expect(nvme.pcie?.link).toEqual({ generation: 4, width: 4 });
  expect(isUnknown(nvme, "pcie.link.width")).toBe(true);
  expect(isUnknown(nvme, "acs")).toBe(true);
  expect(machine.hostBridges).toMatchObject([{ bus: 0x40, busEnd: 0x46, numaNode: 1 }]);
  expect(machine.host).toMatchObject({
    cpuVendor: "AuthenticAMD",
    cpuFamily: 23,
    kernelVersion: "6.1.0",
  });
  // The first device of the root bus decides in Linux's list, and hwloc left it out.
  expect(machine.warnings.join()).toMatch(/0000:40:00.0.*list of host bridges/);
});

test("format 3.0 tells the programming interface after the revision", () => {
  const text = document(' version="3.0"', SWITCH.replace("[144d:a801] 00", "[144d:a801] 07 03"));
  expect(at(read(text).functions, "43:00.0")).toMatchObject({ classCode: 0x010803, revision: 7 });
});

test("bridges that the filter dropped are put back, marked, and told", () => {
  const body = `<object type="Bridge" bridge_type="0-1" bridge_pci="0003:[00-02]">
    <object type="PCIDev" pci_busid="0003:01:00.0" pci_type="0207 [15b3:1019] [1014:0617] 00"/>
    <object type="PCIDev" pci_busid="0003:01:00.1" pci_type="0207 [15b3:1019] [1014:0617] 00"/>
    <object type="PCIDev" pci_busid="0003:02:00.0" pci_type="0302 [10de:1db1] [10de:1212] a1"/>
  </object>`;
  const machine = read(document("", body));
  const ports = machine.functions.filter((fn) => isUnknown(fn, "bdf"));
  expect(ports.map((fn) => fn.bridge?.secondary)).toEqual([2, 1]);
  expect(ports.every((fn) => fn.pcie?.portType === PortType.rootPort)).toBe(true);
  expect(machine.warnings.join()).toMatch(/2 buses got a port of their own/);
});

test.each([
  ["no PCI devices", document("", ""), "no-pci-tree", /no PCI devices/],
  ["another XML", "<svg></svg>", "not-hwloc", /not of hwloc/],
  ["a cut file", document("", SWITCH).slice(0, 900), "xml-damaged", /well-formed/],
])("%s is refused", (_, text, code, message) => {
  expect(() => parseHwloc(text, "topology.xml")).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  );
});
