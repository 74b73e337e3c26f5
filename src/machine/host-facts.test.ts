import { describe, expect, test } from "vitest";
import {
  hostFrom,
  iommuFromCommandLine,
  mergeHostFacts,
  parseBootLog,
  parseCpuinfo,
  parseIomem,
  parseKernelConfig,
  parseKernelVersion,
  parseModules,
  redactCommandLine,
} from "./host-facts.ts";

describe("/proc/cpuinfo", () => {
  test.each([
    [
      "x86",
      "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\n" +
        "model name\t: AMD EPYC 7551\nflags\t\t: fpu lm\n\nprocessor\t: 1\nvendor_id\t: X\n",
      {
        cpuVendor: "AuthenticAMD",
        cpuFamily: 23,
        cpuModel: "AMD EPYC 7551",
        architecture: "x86_64",
      },
    ],
    [
      "arm64",
      "processor\t: 0\nCPU implementer\t: 0xc0\nCPU architecture: 8\nCPU part\t: 0xac3\n",
      { cpuVendor: "Ampere", cpuModel: "0xac3", architecture: "aarch64" },
    ],
    [
      "power",
      "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n",
      { cpuVendor: "IBM", cpuModel: "POWER9, altivec supported", architecture: "ppc64le" },
    ],
    [
      "riscv",
      "processor\t: 0\nisa\t\t: rv64imafdc\nuarch\t\t: sifive,u74\n",
      { cpuModel: "sifive,u74", architecture: "riscv64" },
    ],
    ["nothing of it", "hello\nworld: 1\n", {}],
  ])("%s", (_, text, expected) => {
    expect(parseCpuinfo(text)).toEqual(expected);
  });
});

describe("/proc/iomem", () => {
  const IOMEM = [
    "00001000-0009fbff : System RAM",
    "000a0000-000bffff : PCI Bus 0000:00",
    "c0000000-febfffff : PCI Bus 0000:00",
    "  c0000000-c01fffff : PCI Bus 0000:01",
    "    c0000000-c000ffff : 0000:01:00.0",
    "100000000-63fffffff : System RAM",
    "  101000000-101ffffff : Kernel code",
    "4000000000-7fffffffff : PCI Bus 0000:80",
    "",
  ].join("\n");

  test("RAM, and the ranges of root buses but not of those below them", () => {
    const { ram, rootBuses, hidden } = parseIomem(IOMEM);
    expect(ram).toEqual([
      { base: 0x1000, limit: 0x9fbff },
      { base: 0x100000000, limit: 0x63fffffff },
    ]);
    expect(rootBuses.map(({ rootBus, phys }) => [rootBus, phys])).toEqual([
      [0, 0xa0000],
      [0, 0xc0000000],
      [0x80, 0x4000000000],
    ]);
    expect(hidden).toBe(false);
  });

  test("zeros for everyone but root are no addresses", () => {
    const zeros = "00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n";
    expect(parseIomem(zeros)).toEqual({ ram: [], rootBuses: [], hidden: true });
  });
});

describe("boot log", () => {
  const LOG = [
    "[    0.000000] Linux version 6.8.0-45-generic (build@host) #45 SMP",
    "[    0.000000] Kernel command line: BOOT_IMAGE=/vmlinuz " +
      "root=UUID=7b1e1c5a-1111-2222-3333-aaaaaaaaaaaa iommu=pt",
    "[    0.400000] iommu: Default domain type: Passthrough (set via kernel command line)",
    "[    0.500000] AMD-Vi: Interrupt remapping enabled",
    "[    0.600000] pci_bus 0000:00: root bus resource [mem 0xc0000000-0xfebfffff window]",
    "[    0.700000] pci_bus 0001:00: root bus resource [mem 0x600c000000000-0x600c07fefffff] " +
      "(bus address [0x80000000-0xffefffff])",
  ].join("\n");

  test("version, command line, IOMMU, and apertures with their bus addresses", () => {
    expect(parseBootLog(LOG)).toEqual({
      kernelVersion: "6.8.0-45-generic",
      kernelCommandLine: "BOOT_IMAGE=/vmlinuz root=UUID=REDACTED iommu=pt",
      iommu: "passthrough",
      rootBuses: [
        {
          domain: 0,
          rootBus: 0,
          phys: 0xc0000000,
          bus: 0xc0000000,
          sizeBytes: 0xfebfffff - 0xc0000000 + 1,
        },
        // The CPU's address of this POWER machine is beyond 2^50, the bus address below 4 GiB.
        { domain: 1, rootBus: 0, phys: 0x600c000000000, bus: 0x80000000, sizeBytes: 0x7ff00000 },
      ],
    });
  });
});

describe("command line", () => {
  test.each([
    ["intel_iommu=on", "GenuineIntel", "strict"],
    ["intel_iommu=on iommu=pt", "GenuineIntel", "passthrough"],
    ["intel_iommu=off", "GenuineIntel", "off"],
    ["iommu=pt", "AuthenticAMD", "passthrough"],
    ["iommu=pt", "GenuineIntel", null],
    ["amd_iommu=off", "AuthenticAMD", "off"],
    ["intel_iommu=on", "AuthenticAMD", null],
    ["iommu.passthrough=1 intel_iommu=on", "GenuineIntel", "passthrough"],
    ["iommu.passthrough=0 iommu=pt intel_iommu=on", "GenuineIntel", "strict"],
    ["quiet", "GenuineIntel", null],
  ] as const)("%s on %s is %s", (line, vendor, expected) => {
    expect(iommuFromCommandLine(line, vendor)).toBe(expected);
  });

  test("what identifies a machine or a person is taken out", () => {
    const line =
      "BOOT_IMAGE=/vmlinuz root=UUID=7b1e1c5a-1111-2222-3333-aaaaaaaaaaaa " +
      "BOOTIF=01-52-54-00-12-34-56 ifname=eth0:52:54:00:12:34:56 my.password=hunter2 " +
      "pci=disable_acs_redir=0000:16:00.0 console=ttyS0 -- --token abc";
    expect(redactCommandLine(line)).toBe(
      "BOOT_IMAGE=/vmlinuz root=UUID=REDACTED BOOTIF=REDACTED ifname=eth0:REDACTED " +
        "my.password=REDACTED pci=disable_acs_redir=0000:16:00.0 console=ttyS0",
    );
  });
});

test("modules, configuration, versions", () => {
  expect(parseModules("nvme 65536 3 - Live 0x0\nib_core 1 2 x, Live\nnvme 1 0 -\n")).toEqual([
    "ib_core",
    "nvme",
  ]);
  expect(
    parseKernelConfig('CONFIG_PCI_P2PDMA=y\n# CONFIG_X is not set\nCONFIG_S="a b"\n#\n'),
  ).toEqual({ PCI_P2PDMA: "y", X: "n", S: "a b" });
  expect(parseKernelVersion("6.18.44-fc\n")).toBe("6.18.44-fc");
  expect(parseKernelVersion("Linux version 5.4.0 (x)")).toBe("5.4.0");
  expect(parseKernelVersion("x")).toBeNull();
});

test("a host names what it does not know, and a family exists on x86 only", () => {
  const facts = mergeHostFacts({ cpuVendor: "A", architecture: null }, { cpuVendor: "B" });
  expect(facts).toEqual({ cpuVendor: "A" });
  const fields = hostFrom(facts).unknown.map(({ field }) => field);
  expect(fields).toContain("iommu");
  expect(fields).not.toContain("cpuVendor");
  const arm = hostFrom({ architecture: "aarch64" });
  expect(arm.unknown.map(({ field }) => field)).not.toContain("cpuFamily");
});
