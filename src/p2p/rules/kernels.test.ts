/** The same pair under the kernels that judge it differently, on machines made for it. */
import { describe, expect, it } from "vitest";
import { MachineBuilder, type NodeOptions } from "../../../testing/machine-builder.ts";
import { PeerlaneError } from "../../core/index.ts";
import type { Host, Machine } from "../../machine/index.ts";
import {
  type KernelVersion,
  parseKernelVersion,
  RULE_SETS,
  Rules,
  ruleSetFor,
  Topology,
  type Verdict,
} from "../index.ts";

const kernel = (text: string): KernelVersion => parseKernelVersion(text)!;

function judge(machine: Machine, provider: number, client: number, version: string): Verdict {
  const functions = machine.functions.filter(
    ({ bridge, pcie }) => bridge === null && pcie !== null,
  );
  const rules = new Rules(new Topology(machine), undefined, kernel(version));
  return rules.verdict(functions[provider].bdf, functions[client].bdf);
}

/** `BUS_ADDR 4`, or `no acs-redirect-refused`. */
function say({ mapType, distance, reason }: Verdict): string {
  return distance < 0 ? `no ${reason}` : `${mapType} ${distance}`;
}

const ZEN: Partial<Host> = { cpuVendor: "AuthenticAMD", cpuFamily: 23, iommu: "off" };
const XEON: Partial<Host> = { cpuVendor: "GenuineIntel", cpuFamily: 6 };

/** Two devices below two root ports. `first` is the first device of the root bus. */
function twoPorts(host: Partial<Host>, first: NodeOptions): Machine {
  const builder = new MachineBuilder("two ports", host);
  const root = builder.root();
  builder.bridge(root, { ...first, classCode: 0x060000 });
  builder.endpoint(builder.rootPort(root, { slot: 3 }));
  builder.endpoint(builder.rootPort(root, { slot: 4 }));
  return builder.build();
}

/** Two devices below one switch; `acs` at one of its ports. */
function oneSwitch(host: Partial<Host>, first: NodeOptions, acs: number): Machine {
  const builder = new MachineBuilder("one switch", host);
  const root = builder.root();
  builder.bridge(root, { ...first, classCode: 0x060000 });
  const { ports } = builder.switch(builder.rootPort(root), 2, { acs });
  for (const port of ports) builder.endpoint(port);
  return builder.build();
}

const ZEN_ROOT: NodeOptions = { vendor: 0x1022, device: 0x1450 };

describe("which rule set a kernel has", () => {
  it.each([
    ["4.20", "linux-4.20"],
    ["5.3", "linux-4.20"],
    ["5.4", "linux-5.4"],
    ["5.13", "linux-5.4"],
    ["5.14", "linux-5.14"],
    ["7.3", "linux-5.14"],
  ])("Linux %s has %s", (version, id) => {
    expect(ruleSetFor(kernel(version)).id).toBe(id);
  });

  it("before 4.20 there is none, and the error says what to name", () => {
    try {
      ruleSetFor(kernel("4.19"));
      expect.fail("no error");
    } catch (error) {
      expect(error).toBeInstanceOf(PeerlaneError);
      const { code, message, remedy } = error as PeerlaneError;
      expect(code).toBe("no-rule-set");
      expect(message).toContain("no rules known for Linux 4.19");
      expect(remedy).toContain("name Linux 4.20");
      expect(remedy).toContain("expert-pcie-7.0");
    }
  });

  it("each has an id of its own, and each reason once", () => {
    expect(new Set(RULE_SETS.map(({ id }) => id)).size).toBe(RULE_SETS.length);
    for (const { rules } of RULE_SETS) {
      expect(new Set(rules.map(({ reason }) => reason)).size).toBe(rules.length);
    }
  });
});

describe("two root ports of a Zen CPU, by kernel", () => {
  const machine = twoPorts(ZEN, ZEN_ROOT);
  it.each([
    ["4.20", "no no-common-bridge-refused"],
    ["5.1", "no no-common-bridge-refused"],
    ["5.2", `THRU_HOST_BRIDGE ${0x1000 + 4}`],
    ["5.3", `THRU_HOST_BRIDGE ${0x1000 + 4}`],
    ["5.4", "THRU_HOST_BRIDGE 4"],
    ["5.8", "THRU_HOST_BRIDGE 4"],
    ["5.9", "THRU_HOST_BRIDGE 4"],
    ["7.3", "THRU_HOST_BRIDGE 4"],
  ])("Linux %s: %s", (version, expected) => {
    expect(say(judge(machine, 0, 1, version))).toBe(expected);
  });

  it("until 5.8 by the list, from 5.9 on by the CPU", () => {
    expect(judge(machine, 0, 1, "5.8").reason).toBe("no-common-bridge-listed");
    expect(judge(machine, 0, 1, "5.9").reason).toBe("no-common-bridge-cpu-forwards");
  });

  it("4.20 names the first kernel that lets it pass, and its place", () => {
    const { remedies, evidence, hop } = judge(machine, 0, 1, "4.20");
    const newer = remedies.find(({ kind }) => kind === "kernel-version");
    expect(newer?.text).toMatch(/^Run Linux 5.2 or later/);
    expect(evidence[0].decoded).toBe("Linux 4.20 knows no host bridge that forwards");
    expect(hop).toBe(machine.functions[0].bdf);
  });

  it("5.2 and 5.3 give bus addresses there too, and the verdict says what that rests on", () => {
    expect(judge(machine, 0, 1, "5.3").assumptions.join()).toContain("gives the client the bus");
    expect(judge(machine, 0, 1, "5.4").assumptions.join()).not.toContain("bus address");
  });

  it.each(["passthrough", "strict"] as const)(
    "5.2 refuses where the IOMMU is in mode %s",
    (iommu) => {
      const verdict = judge(twoPorts({ ...ZEN, iommu }, ZEN_ROOT), 0, 1, "5.2");
      expect(verdict).toMatchObject({ reason: "iommu-present", route: "none", distance: -1 });
      expect(verdict.rawDistance).toBe(0x1004);
      const offers = verdict.remedies.map(({ kind, command }) => command ?? kind);
      expect(offers).toEqual(["kernel-version", "amd_iommu=off", "move-slot", "host-memory"]);
      expect(verdict.remedies[0].text).toContain("Linux 5.4 or later");
      const later = judge(twoPorts({ ...ZEN, iommu }, ZEN_ROOT), 0, 1, "5.4");
      expect(later.route).toBe("host-bridge");
    },
  );

  it("5.2 says so where the dump does not tell of an IOMMU, and takes groups for one", () => {
    const unknown = twoPorts({ ...ZEN, iommu: null }, ZEN_ROOT);
    const verdict = judge(unknown, 0, 1, "5.2");
    expect(verdict.route).toBe("host-bridge");
    expect(verdict.assumptions.join()).toContain("whether there is an IOMMU is not in the dump");
    const functions = unknown.functions.map((fn) => ({ ...fn, iommuGroup: 1 }));
    expect(judge({ ...unknown, functions }, 0, 1, "5.2").reason).toBe("iommu-present");
  });

  it("Raven and Renoir: listed in 5.8 alone, then the CPU decides", () => {
    for (const device of [0x15d0, 0x1630]) {
      const raven = twoPorts(ZEN, { vendor: 0x1022, device });
      const said = ["5.7", "5.8", "5.9"].map((version) => judge(raven, 0, 1, version).reason);
      expect(said).toEqual([
        "no-common-bridge-unlisted",
        "no-common-bridge-listed",
        "no-common-bridge-cpu-forwards",
      ]);
      const { remedies } = judge(raven, 0, 1, "5.7");
      expect(remedies[0].text).toContain("Run Linux 5.8 or later");
    }
    // Rome was never listed: only the CPU helps it.
    const rome = judge(twoPorts(ZEN, { vendor: 0x1022, device: 0x1480 }), 0, 1, "5.4");
    expect(rome.remedies[0].text).toMatch(/Run Linux 5.9 or later, which lets every AMD CPU/);
  });
});

describe("a switch whose ports redirect, by kernel", () => {
  it.each([
    ["4.20", "no acs-redirect-refused"],
    ["5.3", "no acs-redirect-refused"],
    ["5.4", "THRU_HOST_BRIDGE 4"],
    ["7.3", "THRU_HOST_BRIDGE 4"],
  ])("Linux %s below a Zen root complex: %s", (version, expected) => {
    expect(say(judge(oneSwitch(ZEN, ZEN_ROOT, 0x1d), 0, 1, version))).toBe(expected);
  });

  it("the old refusal offers to clear the bits, and a newer kernel", () => {
    const { remedies, evidence } = judge(oneSwitch(ZEN, ZEN_ROOT, 0x1d), 0, 1, "5.3");
    expect(remedies[0].command).toMatch(/^pci=disable_acs_redir=/);
    const newer = remedies.find(({ kind }) => kind === "kernel-version");
    expect(newer?.text).toContain("Linux 5.4 or later, which lets such traffic pass");
    expect(evidence.at(-1)?.decoded).toBe("Linux 5.3 refuses every way that ACS redirects");
  });

  it("without redirection all agree", () => {
    const clear = oneSwitch(XEON, { device: 0x29c0 }, 0x53);
    const said = ["4.20", "5.2", "5.4", "5.14", "7.3"].map((v) => say(judge(clear, 0, 1, v)));
    expect(new Set(said)).toEqual(new Set(["BUS_ADDR 4"]));
  });
});

describe("host bridges of Xeons, by kernel", () => {
  it.each([
    [0x3c00, "5.3", "5.4"],
    [0x2f01, "5.3", "5.4"],
    [0x2030, "5.5", "5.6"],
    [0x2020, "5.5", "5.6"],
    [0x2031, "5.6", "5.7"],
    [0x09a2, "5.17", "5.18"],
    [0x0b25, "7.1", "7.2"],
    [0x4940, "7.1", "7.2"],
  ])("8086:%s is listed after %s, from %s on", (device, before, since) => {
    const machine = twoPorts(XEON, { vendor: 0x8086, device });
    expect(judge(machine, 0, 1, before).reason).toBe("no-common-bridge-unlisted");
    expect(judge(machine, 0, 1, since).reason).toBe("no-common-bridge-listed");
  });

  /** The first device is root port C; A and B have nothing below them and are hidden. */
  const portC = (): Machine => {
    const builder = new MachineBuilder("port C first", XEON);
    const root = builder.root();
    builder.endpoint(builder.rootPort(root, { vendor: 0x8086, device: 0x2032, slot: 2 }));
    builder.endpoint(builder.rootPort(root, { vendor: 0x8086, device: 0x2033, slot: 3 }));
    return builder.build();
  };

  it("a root port that is not 00.0 stands for its host bridge from 5.19 on", () => {
    const before = judge(portC(), 0, 1, "5.18");
    expect(before.reason).toBe("no-common-bridge-unlisted");
    expect(before.evidence[0].decoded).toContain("is not device 00.0, so Linux 5.18");
    expect(before.remedies[0].text).toBe("Run Linux 5.19 or later, which lists this host bridge.");
    expect(judge(portC(), 0, 1, "5.19").route).toBe("host-bridge");
  });

  it("nothing but AMD is listed before 5.4", () => {
    const machine = twoPorts(XEON, { vendor: 0x8086, device: 0x3c00 });
    expect(judge(machine, 0, 1, "5.2").reason).toBe("no-common-bridge-unlisted");
    expect(judge(machine, 0, 1, "5.1").reason).toBe("no-common-bridge-refused");
  });
});

describe("shapes of machines, under every kernel's rules", () => {
  const versions = ["4.20", "5.2", "5.8", "5.13", "5.14", "7.3"];
  const everywhere = (machine: Machine, provider: number, client: number): string[] => [
    ...new Set(versions.map((version) => say(judge(machine, provider, client, version)))),
  ];

  it("SR-IOV: virtual functions stand where their physical function stands", () => {
    const builder = new MachineBuilder("sr-iov", XEON);
    const { ports } = builder.switch(builder.rootPort(builder.root()), 2);
    const pf = builder.endpoint(ports[0]);
    builder.endpoint(ports[0], { physical: pf, slot: 0, fn: 1 });
    builder.endpoint(ports[0], { physical: pf, slot: 0, fn: 2 });
    builder.endpoint(ports[1]);
    const machine = builder.build();
    expect(everywhere(machine, 1, 2)).toEqual(["BUS_ADDR 2"]);
    expect(everywhere(machine, 0, 1)).toEqual(["BUS_ADDR 2"]);
    expect(everywhere(machine, 2, 3)).toEqual(["BUS_ADDR 4"]);
  });

  it("multifunction: a redirect at either function counts, at its port too", () => {
    const make = (function0: NodeOptions, port: NodeOptions = {}): Machine => {
      const builder = new MachineBuilder("multifunction", XEON);
      const below = builder.rootPort(builder.root(), port);
      builder.endpoint(below, { ...function0, slot: 0, fn: 0 });
      builder.endpoint(below, { slot: 0, fn: 1 });
      return builder.build();
    };
    expect(everywhere(make({}), 0, 1)).toEqual(["BUS_ADDR 2"]);
    for (const machine of [make({ acs: 0x04 }), make({ acs: 0x20 }), make({}, { acs: 0x08 })]) {
      const refused = ["no acs-redirect-refused", "no acs-redirect-unlisted"];
      expect(everywhere(machine, 0, 1)).toEqual(refused);
      expect(everywhere(machine, 1, 0)).toEqual(refused);
    }
  });

  it("conventional PCI: bridges count as any other, without ACS", () => {
    const builder = new MachineBuilder("conventional", XEON);
    const bridge = builder.bridge(builder.rootPort(builder.root()));
    builder.endpoint(bridge);
    builder.endpoint(bridge);
    builder.endpoint(builder.bridge(bridge));
    const machine = builder.build();
    expect(everywhere(machine, 0, 1)).toEqual(["BUS_ADDR 2"]);
    expect(everywhere(machine, 0, 2)).toEqual(["BUS_ADDR 3"]);
  });

  it("endpoints of the root complex: a chain of one, below no bridge", () => {
    const builder = new MachineBuilder("integrated", XEON);
    const root = builder.root();
    builder.endpoint(root, { slot: 1 });
    builder.endpoint(root, { slot: 2 });
    const machine = builder.build();
    const verdict = judge(machine, 0, 1, "7.3");
    expect(verdict).toMatchObject({ reason: "no-common-bridge-unlisted", rawDistance: 2 });
    expect(judge(machine, 0, 0, "4.20")).toMatchObject({ route: "self", distance: 0 });
    expect(judge(machine, 0, 1, "5.3").rawDistance).toBe(0x1002);
  });

  it("domains: the same bus numbers in two domains share nothing", () => {
    const builder = new MachineBuilder("domains", XEON);
    for (const domain of [0, 1]) {
      const root = builder.root({ domain, bus: 0 });
      builder.bridge(root, { vendor: 0x8086, device: 0x09a2, classCode: 0x060000 });
      builder.endpoint(builder.rootPort(root));
    }
    const machine = builder.build();
    const said = ["4.20", "5.17", "5.18"].map((version) => judge(machine, 0, 1, version).reason);
    expect(said).toEqual([
      "no-common-bridge-refused",
      "no-common-bridge-unlisted",
      "no-common-bridge-listed",
    ]);
  });

  it("two host bridges that forward only below themselves", () => {
    const builder = new MachineBuilder("haswell", XEON);
    for (const bus of [0, 0x80]) {
      const root = builder.root({ bus });
      builder.bridge(root, { vendor: 0x8086, device: 0x2f00, classCode: 0x060000 });
      builder.endpoint(builder.rootPort(root));
      builder.endpoint(builder.rootPort(root));
    }
    const machine = builder.build();
    expect(judge(machine, 0, 1, "5.4").reason).toBe("no-common-bridge-listed");
    expect(judge(machine, 0, 2, "5.4").reason).toBe("host-bridges-differ");
    expect(judge(machine, 0, 2, "5.4").remedies.map(({ kind }) => kind)).not.toContain(
      "kernel-version",
    );
  });
});
