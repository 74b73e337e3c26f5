import { describe, expect, it } from "vitest";
import { MachineBuilder, type NodeOptions } from "../../testing/machine-builder.ts";
import { type Bdf, formatBdf, parseBdf } from "../core/index.ts";
import type { Host } from "../machine/index.ts";
import {
  evaluate,
  evaluateAll,
  formatVersion,
  parseKernelVersion,
  Rules,
  ruleSetFor,
  Topology,
} from "./index.ts";
import { LINUX_5_14 } from "./rules/linux.ts";

const INTEL: Partial<Host> = { cpuVendor: "GenuineIntel", cpuFamily: 6, kernelVersion: "7.3.4" };
const ZEN: Partial<Host> = { cpuVendor: "AuthenticAMD", cpuFamily: 25, kernelVersion: "7.3.4" };

/**
 * A desktop's host bridge, a switch with three ports, two of them taken, and a root port beside.
 */
function machine(host: Partial<Host>, port: NodeOptions = {}, first: NodeOptions = {}) {
  const builder = new MachineBuilder("test", host);
  const root = builder.root();
  builder.endpoint(root, { vendor: 0x8086, device: 0x29c0, ...first });
  const { upstream, ports } = builder.switch(builder.rootPort(root), 3);
  const redirecting = builder.switch(builder.rootPort(root), 2, port);
  const a = builder.endpoint(ports[0]);
  const b = builder.endpoint(ports[1]);
  const pf = builder.endpoint(redirecting.ports[0]);
  const vf = builder.endpoint(redirecting.ports[0], { physical: pf, slot: 0, fn: 1 });
  const d = builder.endpoint(redirecting.ports[1]);
  const built = builder.build();
  const names = { a, b, pf, vf, d, upstream, freePort: ports[2], redirect: redirecting.ports[0] };
  const bdfs = Object.fromEntries(Object.entries(names).map(([name, { bdf }]) => [name, bdf]));
  return {
    built,
    rules: new Rules(new Topology(built)),
    ...(bdfs as Record<keyof typeof names, Bdf>),
  };
}

describe("verdicts of the classic rule", () => {
  it("same switch: bus address, distance 4, by the switch", () => {
    const { rules, a, b, upstream } = machine(INTEL);
    expect(rules.verdict(a, b)).toMatchObject({
      mapType: "BUS_ADDR",
      route: "bus",
      distance: 4,
      reason: "common-bridge",
      hop: upstream,
      evidence: [],
      remedies: [],
      assumptions: [],
      ruleSet: "linux-5.14",
    });
  });

  it("itself: bus address, distance 0", () => {
    const { rules, a } = machine(INTEL);
    const verdict = rules.verdict(a, a);
    expect(verdict).toMatchObject({ route: "self", distance: 0, reason: "same-function" });
  });

  it("a virtual function stands where its physical function stands", () => {
    const { rules, pf, vf, d } = machine(INTEL);
    expect(rules.verdict(pf, vf)).toMatchObject({ mapType: "BUS_ADDR", distance: 2 });
    expect(rules.verdict(vf, d)).toMatchObject({ mapType: "BUS_ADDR", distance: 4 });
  });

  it("ACS redirect: names the port, the register, the bits and how to clear them", () => {
    const { rules, pf, d, redirect } = machine(INTEL, { acs: 0x1d });
    const verdict = rules.verdict(pf, d);
    const name = formatBdf(redirect);
    expect(verdict).toMatchObject({
      mapType: "NOT_SUPPORTED",
      route: "none",
      distance: -1,
      rawDistance: 4,
      reason: "acs-redirect-unlisted",
      hop: redirect,
    });
    expect(verdict.evidence[0]).toEqual({
      bdf: redirect,
      register: "ACS Control",
      offset: 0x156,
      value: 0x1d,
      decoded: "SrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-",
    });
    const commands = verdict.remedies.map(({ command }) => command);
    const other = formatBdf(verdict.evidence[1].bdf as Bdf);
    expect(commands[0]).toBe(`pci=disable_acs_redir=${name};${other}`);
    expect(commands[1]).toBe(
      `setpci -s ${name} ECAP_ACS+6.w=0:2c && setpci -s ${other} ECAP_ACS+6.w=0:2c`,
    );
    expect(verdict.remedies.map(({ weakensIsolation }) => weakensIsolation)).toEqual([
      true,
      true,
      false,
    ]);
    expect(verdict.text).toContain("ReqRedir+");
    expect(verdict.text).toContain("8086:29c0 is not in the host bridge list of Linux 7.3");
  });

  it("ACS redirect on a CPU that forwards: through the host bridge, at the same distance", () => {
    const { rules, pf, d } = machine(ZEN, { acs: 0x04 });
    expect(rules.verdict(pf, d)).toMatchObject({
      mapType: "THRU_HOST_BRIDGE",
      route: "host-bridge",
      distance: 4,
      reason: "acs-redirect-cpu-forwards",
    });
  });

  it("two root ports: refused by a desktop's root complex, with a free port to move to", () => {
    const { rules, a, pf, freePort } = machine(INTEL);
    const verdict = rules.verdict(a, pf);
    expect(verdict).toMatchObject({ reason: "no-common-bridge-unlisted", rawDistance: 8 });
    const move = verdict.remedies.find(({ kind }) => kind === "move-slot");
    expect(move?.text).toContain(formatBdf(freePort));
    expect(verdict.hop).toBe(parseBdf("00:00.0"));
  });

  it("a first device that is neither 00.0 nor a root port is not looked up", () => {
    const { rules, a, pf } = machine(INTEL, {}, { device: 0x09a2, slot: 1 });
    const { evidence } = rules.verdict(a, pf);
    expect(evidence[0].decoded).toContain("neither device 00.0 nor a root port");
  });

  it("Ice Lake: listed from 5.18 on, and before that a newer kernel is the remedy", () => {
    const iceLake = { device: 0x09a2 };
    const old = machine({ ...INTEL, kernelVersion: "5.15.0-91-generic" }, {}, iceLake);
    const refused = old.rules.verdict(old.a, old.pf);
    expect(refused.reason).toBe("no-common-bridge-unlisted");
    expect(refused.remedies[0]).toMatchObject({
      kind: "kernel-version",
      text: "Run Linux 5.18 or later, which lists this host bridge.",
    });
    const { rules, a, pf } = machine(INTEL, {}, iceLake);
    expect(rules.verdict(a, pf).reason).toBe("no-common-bridge-listed");
  });

  it("an entry for one host bridge does not join two", () => {
    const builder = new MachineBuilder("two sockets", INTEL);
    const [a, b] = [0, 0x80].map((bus) => {
      const root = builder.root({ bus });
      builder.endpoint(root, { vendor: 0x8086, device: 0x2f00 });
      return builder.endpoint(builder.rootPort(root));
    });
    const built = builder.build();
    const verdict = new Rules(new Topology(built)).verdict(a.bdf, b.bdf);
    expect(verdict.reason).toBe("host-bridges-differ");
    expect(verdict.text).toContain("below the same host bridge only");
    expect(verdict.remedies.map(({ kind }) => kind)).toEqual(["move-slot", "host-memory"]);
  });

  it("says what it did not know and what it took for true", () => {
    const { rules, pf, d } = machine({}, { unknown: ["acs"] });
    const [acs, , kernel] = rules.verdict(pf, d).assumptions;
    expect(acs).toContain("is not in the dump: taken as absent");
    expect(kernel ?? rules.verdict(pf, d).assumptions.at(-1)).toContain("rules of Linux 7.3");
    const { a } = machine({});
    expect(rules.verdict(a, pf).assumptions.join("; ")).toContain("the CPU is not in the dump");
  });

  it("tells a Zen CPU by its root complex where the dump names no CPU, and says so", () => {
    const { rules, a, pf } = machine({}, {}, { vendor: 0x1022, device: 0x1480 });
    const verdict = rules.verdict(a, pf);
    expect(verdict.reason).toBe("no-common-bridge-cpu-forwards");
    expect(verdict.assumptions[0]).toContain("as 0000:00:00.0 tells");
    const other = machine({}, {}, { vendor: 0x1022, device: 0x1510 });
    const refused = other.rules.verdict(other.a, other.pf);
    expect(refused.reason).toBe("no-common-bridge-unlisted");
    expect(refused.remedies[0].kind).toBe("complete-dump");
    // What the dump does tell is never overruled.
    const told = machine({ cpuVendor: "GenuineIntel", cpuFamily: 6 }, {}, { vendor: 0x1022 });
    expect(told.rules.verdict(told.a, told.pf).route).toBe("none");
  });

  it("a client that is no PCI function is a verdict; a provider that is not there an error", () => {
    const { rules, a } = machine(INTEL);
    const nobody = parseBdf("ff:1f.7");
    expect(rules.verdict(a, nobody)).toMatchObject({ reason: "no-such-function", distance: -1 });
    expect(() => rules.verdict(nobody, a)).toThrow("ff:1f.7");
  });

  it("answers without keeping anything, for one pair and for all", () => {
    const { built, rules, a, b } = machine(INTEL);
    const topology = new Topology(built);
    expect(evaluate(topology, LINUX_5_14, a, b)).toEqual(rules.verdict(a, b));
    const matrix = evaluateAll(topology, LINUX_5_14);
    expect(matrix).toEqual(rules.matrix());
    const total = Object.values(matrix.countByReason()).reduce((sum, count) => sum + count, 0);
    expect(total).toBe(topology.count ** 2);
    expect(rules.inspect()).toMatchObject({ ruleSet: "linux-5.14", kernel: "7.3" });
  });
});

describe("kernel versions", () => {
  it.each([
    ["7.3.4+deb13-amd64", "7.3"],
    ["5.15.0-91-generic", "5.15"],
    ["6.1", "6.1"],
    ["Linux version 6.8.0-rc1 (x)", "6.8"],
  ])("%s is %s", (text, expected) => {
    const version = parseKernelVersion(text);
    expect(version === null ? null : formatVersion(version)).toBe(expected);
  });

  it("is unknown where there is none", () => {
    expect(parseKernelVersion(null)).toBeNull();
    expect(parseKernelVersion("garbage")).toBeNull();
  });

  it("have a rule set each", () => {
    expect(ruleSetFor({ major: 5, minor: 14 }).id).toBe("linux-5.14");
    expect(() => ruleSetFor({ major: 4, minor: 19 })).toThrow("no rules known for Linux 4.19");
  });
});
