/** The expert rule set on small machines: one control at a time, at the port that it is about. */
import { describe, expect, it } from "vitest";
import { MachineBuilder, type Node, type NodeOptions } from "../../../testing/machine-builder.ts";
import type { Bdf } from "../../core/index.ts";
import type { AcsFacts, Host, Machine, PciFunction } from "../../machine/index.ts";
import { Acs, Rules, ruleSetById, type TlpClassName, Topology } from "../index.ts";

const ZEN: Partial<Host> = { cpuVendor: "AuthenticAMD", cpuFamily: 25, kernelVersion: "7.3.4" };
const XEON: Partial<Host> = { cpuVendor: "GenuineIntel", cpuFamily: 6, kernelVersion: "7.3.4" };

/** Places of the machine that the tests set controls at. */
interface Controls {
  readonly rootPort?: number;
  /** Client's and provider's port of the outer switch, where their ways part. */
  readonly client?: number;
  readonly provider?: number;
  /** Client's and provider's port of the inner switches. */
  readonly clientLeaf?: number;
  readonly providerLeaf?: number;
  /** Egress control vector of the client's port; null: not in the dump. */
  readonly vector?: readonly number[] | null;
}

/** A switch with a switch below each of two ports; client and provider below those. */
function nested(controls: Controls, host = ZEN) {
  const options = (acs: number | undefined): NodeOptions => (acs === undefined ? {} : { acs });
  const builder = new MachineBuilder("nested", host);
  const root = builder.root();
  builder.endpoint(root, { vendor: 0x8086, device: 0x29c0 });
  const { ports } = builder.switch(builder.rootPort(root, options(controls.rootPort)), 2);
  const [outerClient, outerProvider] = ports as [Node, Node];
  const below = (port: Node, acs: number | undefined): Node =>
    builder.endpoint(builder.switch(port, 1, options(acs)).ports[0], { bars: [4096] });
  const client = below(outerClient, controls.clientLeaf);
  const provider = below(outerProvider, controls.providerLeaf);
  let machine = builder.build();
  const { vector = [0, 0, 0, 0, 0, 0, 0, 0] } = controls;
  machine = setAcs(machine, outerClient.bdf, controls.client, vector);
  machine = setAcs(machine, outerProvider.bdf, controls.provider, [0]);
  return {
    machine,
    client: client.bdf,
    provider: provider.bdf,
    clientPort: outerClient.bdf,
    providerPort: outerProvider.bdf,
  };
}

function setAcs(
  machine: Machine,
  bdf: Bdf,
  control: number | undefined,
  egressVector: readonly number[] | null,
): Machine {
  if (control === undefined) return machine;
  const acs: AcsFacts = { offset: 0x150, capabilities: 0x7f, control, egressVector };
  const functions = machine.functions.map((fn) => (fn.bdf === bdf ? { ...fn, acs } : fn));
  return { ...machine, functions };
}

type Set = ReturnType<typeof nested>;

function ask(set: Set, tlpClass: TlpClassName = "strict", id = "expert-pcie-7.0") {
  const rules = new Rules(new Topology(set.machine), ruleSetById(id));
  return rules.directions(set.provider, set.client, tlpClass);
}

/** `write outcome, read outcome`. */
function say(controls: Controls, tlpClass?: TlpClassName): string {
  const { write, read } = ask(nested(controls), tlpClass);
  return `${write.outcome}, ${read.outcome}`;
}

const UF = Acs.UF;
/** The provider's port is device 1 of the outer switch: bit 1. */
const BIT_SET = { vector: [0b10] };

describe("where the ways part", () => {
  it.each<[string, Controls, string]>([
    ["nothing set", {}, "direct, direct"],
    ["RR at the client's port", { client: Acs.RR }, "redirected, redirected"],
    ["RR at the provider's port", { provider: Acs.RR }, "direct, direct"],
    ["CR at the provider's port", { provider: Acs.CR }, "direct, redirected"],
    ["CR at the client's port", { client: Acs.CR }, "direct, direct"],
    ["RR below the client's port", { clientLeaf: Acs.RR }, "direct, direct"],
    ["CR below the provider's port", { providerLeaf: Acs.CR }, "direct, direct"],
    ["EC, bit clear", { client: Acs.EC }, "direct, direct"],
    ["EC and RR, bit clear", { client: Acs.EC | Acs.RR }, "direct, direct"],
    ["EC, bit set", { client: Acs.EC, ...BIT_SET }, "blocked, blocked"],
    ["EC and RR, bit set", { client: Acs.EC | Acs.RR, ...BIT_SET }, "redirected, redirected"],
    ["EC, no vector in the dump", { client: Acs.EC, vector: null }, "unknown, unknown"],
    ["EC at the provider's port", { provider: Acs.EC }, "direct, direct"],
    ["SV, UF, DT", { client: 0x51, provider: 0x51, clientLeaf: 0x51 }, "direct, direct"],
  ])("%s", (_name, controls, expected) => {
    expect(say({ rootPort: UF, ...controls })).toBe(expected);
  });

  it("the kernel's rule refuses what the specification lets pass", () => {
    const set = nested({ clientLeaf: Acs.RR, provider: Acs.RR, rootPort: UF }, XEON);
    const classic = new Rules(new Topology(set.machine));
    expect(classic.verdict(set.provider, set.client).reason).toBe("acs-redirect-unlisted");
    expect(ask(set).read).toMatchObject({
      mapType: "BUS_ADDR",
      reason: "acs-direct",
      rule: "expert-pcie-7.0/acs-direct",
    });
  });

  it("a kernel's rule set has one verdict for both directions, and no outcome", () => {
    const set = nested({ provider: Acs.CR, rootPort: UF });
    const rules = new Rules(new Topology(set.machine));
    const { write, read } = rules.directions(set.provider, set.client);
    expect(write).toMatchObject({ ...rules.verdict(set.provider, set.client), outcome: null });
    expect(read).toMatchObject({ direction: "read", mapType: "THRU_HOST_BRIDGE", outcome: null });
  });
});

describe("Upstream Forwarding", () => {
  it("clear above: what is redirected is rejected on its way, by the port that is named", () => {
    const set = nested({ client: Acs.RR, rootPort: 0 });
    const { write } = ask(set);
    expect(write).toMatchObject({ outcome: "blocked", reason: "acs-upstream-forwarding-clear" });
    const commands = write.remedies.map(({ command }) => command);
    expect(commands[0]).toBe("pci=config_acs=1xxxx@0000:00:01.0");
    expect(commands[1]).toBe("setpci -s 0000:00:01.0 ECAP_ACS+6.w=10:10");
    expect(write.remedies[0].weakensIsolation).toBe(false);
    expect(write.remedies[2].weakensIsolation).toBe(true);
  });

  it("clear above: completions fail in the same way", () => {
    const { write, read } = ask(nested({ provider: Acs.CR }));
    expect(write.outcome).toBe("direct");
    expect(read).toMatchObject({ outcome: "blocked", reason: "acs-upstream-forwarding-clear" });
    expect(read.text).toContain("blocked, for their completions");
  });
});

describe("translated requests and relaxed ordering", () => {
  const both = { client: Acs.RR, provider: Acs.CR, rootPort: UF };
  it.each<[TlpClassName, Controls, string]>([
    ["relaxed-completion", { provider: Acs.CR, rootPort: UF }, "direct, direct"],
    ["relaxed-completion", both, "redirected, redirected"],
    ["translated", { client: Acs.RR | Acs.DT, rootPort: UF }, "direct, direct"],
    ["translated", { ...both, client: Acs.RR | Acs.DT }, "direct, redirected"],
    ["both", { ...both, client: Acs.RR | Acs.DT }, "direct, direct"],
    ["translated", { client: Acs.EC | Acs.DT, ...BIT_SET }, "direct, direct"],
    ["translated", { client: Acs.EC, ...BIT_SET }, "blocked, blocked"],
    ["translated", { client: Acs.TB | Acs.DT }, "blocked, blocked"],
    ["translated", { clientLeaf: Acs.TB }, "blocked, blocked"],
    ["translated", { rootPort: Acs.TB | UF }, "direct, direct"],
    ["translated", { client: Acs.RR, rootPort: Acs.TB | UF }, "blocked, blocked"],
    ["translated", { provider: Acs.TB }, "direct, direct"],
    ["strict", { clientLeaf: Acs.TB, client: Acs.TB }, "direct, direct"],
    ["strict", { client: Acs.RR | Acs.DT, rootPort: UF }, "redirected, redirected"],
  ])("%s with %o: %s", (tlpClass, controls, expected) => {
    expect(say(controls, tlpClass)).toBe(expected);
  });

  it("says what it takes for granted of the client", () => {
    const { write } = ask(nested({}), "translated");
    expect(write.assumptions.join()).toContain("is not enabled: taken as enabled");
    expect(write.text).toContain("Writes (translated) of");
  });
});

describe("the fallback", () => {
  const blocked = { client: Acs.EC, ...BIT_SET, rootPort: UF };
  const id = "expert-pcie-7.0-fallback";

  it("asks the root complex where a port blocks", () => {
    expect(ask(nested(blocked)).read).toMatchObject({
      mapType: "NOT_SUPPORTED",
      reason: "acs-egress-blocked",
    });
    expect(ask(nested(blocked), "strict", id).read).toMatchObject({
      mapType: "THRU_HOST_BRIDGE",
      outcome: "blocked",
      reason: "acs-blocked-cpu-forwards",
      distance: 8,
    });
    expect(ask(nested(blocked, XEON), "strict", id).read).toMatchObject({
      reason: "acs-egress-blocked",
      distance: -1,
      rawDistance: 8,
    });
    const listed = setIds(nested({ ...blocked, vector: null }, XEON), 0x09a2);
    expect(ask(listed, "strict", id).read).toMatchObject({
      outcome: "unknown",
      reason: "acs-blocked-listed",
    });
  });

  it("does not help translated requests that are blocked", () => {
    const set = nested({ clientLeaf: Acs.TB });
    expect(ask(set, "translated", id).write.reason).toBe("acs-translation-blocked");
  });
});

function setIds(set: Set, deviceId: number): Set {
  const change = (fn: PciFunction, i: number): PciFunction => (i === 0 ? { ...fn, deviceId } : fn);
  return { ...set, machine: { ...set.machine, functions: set.machine.functions.map(change) } };
}

describe("evidence and remedies", () => {
  it("names the register, the vector's word and bit", () => {
    const set = nested({ client: Acs.EC, ...BIT_SET });
    const { evidence, hop, remedies } = ask(set).write;
    expect(hop).toBe(set.clientPort);
    expect(evidence).toMatchObject([
      { bdf: set.clientPort, register: "ACS Control", value: 0x20 },
      {
        bdf: set.clientPort,
        register: "ACS Egress Control Vector",
        offset: 0x158,
        value: 2,
        decoded: "bit 1 is 1",
      },
    ]);
    expect(remedies.map(({ command }) => command)[0]).toMatch(/^pci=config_acs=0xxxxx@/);
  });

  it("asks for a complete dump where the vector is missing", () => {
    const { write } = ask(nested({ client: Acs.EC, vector: null }));
    expect(write.remedies[0].kind).toBe("complete-dump");
  });

  it("offers single bits at single ports, both halves of a read together", () => {
    const set = nested({ client: Acs.RR | Acs.SV, provider: Acs.CR, rootPort: UF }, XEON);
    const { write, read } = ask(set);
    const first = ({ remedies }: typeof read) => remedies[0].command;
    expect(first(write)).toBe("pci=config_acs=0xx@0000:02:00.0");
    expect(first(read)).toBe("pci=config_acs=0xx@0000:02:00.0;0xxx@0000:02:01.0");
    expect(read.remedies[1].command).toBe(
      "setpci -s 0000:02:00.0 ECAP_ACS+6.w=0:4 && setpci -s 0000:02:01.0 ECAP_ACS+6.w=0:8",
    );
    const fixed = nested({ client: Acs.SV, provider: 0, rootPort: UF }, XEON);
    expect(ask(fixed).read.mapType).toBe("BUS_ADDR");
  });

  it("does not offer a kernel parameter that the kernel does not have", () => {
    const set = nested({ client: Acs.RR, rootPort: UF }, { ...XEON, kernelVersion: "6.10" });
    expect(ask(set).write.remedies[0].command).toMatch(/^setpci/);
  });
});

describe("shapes of machines", () => {
  const expert = (machine: Machine) =>
    new Rules(new Topology(machine), ruleSetById("expert-pcie-7.0"));

  it("functions of one device: their own controls, then those of the port above", () => {
    const make = (client: number, port: number, provider = 0) => {
      const builder = new MachineBuilder("multifunction", ZEN);
      const below = builder.rootPort(builder.root(), { acs: port });
      const a = builder.endpoint(below, { acs: client, slot: 0, fn: 0 });
      const b = builder.endpoint(below, { acs: provider, slot: 0, fn: 1 });
      const { write, read } = expert(builder.build()).directions(b.bdf, a.bdf);
      return `${write.outcome}, ${read.outcome}`;
    };
    expect(make(0, 0)).toBe("direct, direct");
    expect(make(Acs.RR, UF)).toBe("redirected, redirected");
    expect(make(Acs.RR, 0)).toBe("blocked, blocked");
    expect(make(0, UF, Acs.CR)).toBe("direct, redirected");
    expect(make(0, Acs.RR | Acs.CR)).toBe("direct, direct");
  });

  it("virtual functions are functions of their device", () => {
    const builder = new MachineBuilder("sr-iov", ZEN);
    const below = builder.rootPort(builder.root(), { acs: UF });
    const pf = builder.endpoint(below, { acs: 0 });
    const vf = builder.endpoint(below, { physical: pf, acs: Acs.RR, slot: 0, fn: 1 });
    const rules = expert(builder.build());
    expect(rules.directions(pf.bdf, vf.bdf).write.outcome).toBe("redirected");
    expect(rules.directions(vf.bdf, pf.bdf).write.outcome).toBe("direct");
  });

  it("root ports: the root complex decides, Egress Control before it", () => {
    const builder = new MachineBuilder("root ports", ZEN);
    const root = builder.root();
    const ports = [2, 3].map((slot) => builder.rootPort(root, { slot, acs: 0 }));
    const [client, provider] = ports.map((port) => builder.endpoint(port));
    const machine = builder.build();
    const rules = (control: number) =>
      expert(setAcs(machine, ports[0].bdf, control, [0b1000])).directions(provider.bdf, client.bdf);
    expect(rules(0).write.reason).toBe("no-common-bridge-cpu-forwards");
    expect(rules(Acs.EC).write).toMatchObject({ outcome: "blocked", hop: ports[0].bdf });
    expect(rules(Acs.EC | Acs.RR).write.outcome).toBe("redirected");
  });

  it("a conventional bus is shared, integrated endpoints are left to the root complex", () => {
    const builder = new MachineBuilder("others", ZEN);
    const root = builder.root();
    const bridge = builder.bridge(builder.rootPort(root, { acs: Acs.RR }));
    const [a, b] = [builder.endpoint(bridge), builder.endpoint(bridge)];
    const [c, d] = [0, 1].map((fn) => builder.endpoint(root, { slot: 9, fn }));
    const rules = expert(builder.build());
    expect(rules.directions(a.bdf, b.bdf).read.outcome).toBe("direct");
    expect(rules.directions(c.bdf, d.bdf).read.outcome).toBe("redirected");
    expect(rules.directions(c.bdf, c.bdf).read).toMatchObject({ route: "self", distance: 0 });
  });

  it("a kernel without an opinion on redirects is judged by the first that has one", () => {
    const set = nested({ client: Acs.RR, rootPort: UF }, { ...ZEN, kernelVersion: "4.20" });
    expect(ask(set).write.reason).toBe("acs-redirect-unlisted");
  });
});
