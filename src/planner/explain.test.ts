import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../testing/planner-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { type Bdf, formatBdf, parseBdf } from "../core/index.ts";
import { type Machine, setCommand, setHost } from "../machine/index.ts";
import {
  applyWhatIf,
  explainPair,
  explanationJson,
  parseWhatIf,
  renderExplanation,
} from "./index.ts";

const kinds = (machine: Machine, a: Bdf, b: Bdf): string[] =>
  explainPair(machine, a, b).remedies.map(({ kind }) => kind);

describe("a pair below one switch", () => {
  const { machine, gpu, disk, diskPort } = plannerMachine();

  it("is allowed, routable and proven, by bus address, at the narrowest speed", () => {
    const answer = explainPair(machine, gpu, disk);
    expect(answer.permitted).toMatchObject({ mapType: "BUS_ADDR", distance: 4 });
    expect(answer.address?.form).toBe("bus");
    for (const { route, reachesRoot, proven, bandwidth } of answer.directions) {
      expect(route?.status).toBe(0);
      expect(reachesRoot).toBe(false);
      expect(proven.outcome).toBe("works");
      expect(bandwidth?.narrowest?.upper).toBe(diskPort);
      expect(bandwidth?.narrowest).toMatchObject({ generation: 4, width: 4 });
      // gen4 x4 at MPS 256: facts.md section 8.
      expect((bandwidth?.narrowest?.bytesPerSecond ?? 0) / 1e9).toBeGreaterThan(6);
      expect((bandwidth?.narrowest?.bytesPerSecond ?? 0) / 1e9).toBeLessThan(7.3);
    }
    expect(answer.remedies).toEqual([]);
  });

  it("takes one direction when one is asked for", () => {
    const { directions } = explainPair(machine, gpu, disk, { direction: "read" });
    expect(directions.map(({ direction }) => direction)).toEqual(["read"]);
  });

  it("says that bits that do not redirect are not to blame", () => {
    const only = plannerMachine({ acs: 0x53 });
    const { permitted, notes } = explainPair(only.machine, only.gpu, only.disk);
    expect(permitted.mapType).toBe("BUS_ADDR");
    expect(notes.join()).toMatch(/SV TB UF DT.*only RR, CR and EC do/);
  });
});

describe("a pair that ACS redirects", () => {
  const { machine, gpu, disk, diskPort, gpuPort } = plannerMachine({
    acs: 0x1d,
    host: { iommu: "strict" },
  });

  it("is refused; remedies are verified, and the least change comes first", () => {
    const { permitted, remedies } = explainPair(machine, gpu, disk);
    expect(permitted.mapType).toBe("NOT_SUPPORTED");
    expect(remedies.map(({ kind }) => kind)).toEqual([
      "register-write",
      "config-acs",
      "disable-acs-redir",
      "iommu-off",
    ]);
    for (const { after } of remedies) expect(after.mapType).toBe("BUS_ADDR");
    for (const { weakensIsolation } of remedies) expect(weakensIsolation).toBe(true);
  });

  it("gives commands that do what the verdict was made with", () => {
    const [setpci, config, disable] = explainPair(machine, gpu, disk).remedies;
    const writes = [...setpci.command!.matchAll(/setpci -s (\S+) ECAP_ACS\+0x6\.w=0000:(\w{4})/g)];
    expect(writes.map(([, bdf]) => parseBdf(bdf)).sort()).toEqual([diskPort, gpuPort].sort());
    const words = writes.map(([, bdf, mask]) => `${bdf}=${0x1d & ~Number.parseInt(mask, 16)}`);
    const changed = applyWhatIf(machine, parseWhatIf({ setAcs: words }));
    expect(explainPair(changed.machine, gpu, disk).permitted.mapType).toBe("BUS_ADDR");
    expect(config.command).toBe(
      `pci=config_acs=xxx00xx@${formatBdf(gpuPort)};xxx00xx@${formatBdf(diskPort)}`,
    );
    expect(disable.command).toBe(
      `pci=disable_acs_redir=${formatBdf(gpuPort)};${formatBdf(diskPort)}`,
    );
  });

  it("changes one port where one redirects", () => {
    const plain = plannerMachine();
    const word = parseWhatIf({ setAcs: [`${formatBdf(plain.diskPort)}=0x29`] });
    const { machine: now } = applyWhatIf(plain.machine, word);
    const [setpci, config] = explainPair(now, plain.gpu, plain.disk).remedies;
    expect(setpci.command).toBe(`setpci -s ${formatBdf(diskPort)} ECAP_ACS+0x6.w=0000:0028`);
    expect(config.command).toBe(`pci=config_acs=x0x0xxx@${formatBdf(diskPort)}`);
  });

  it("offers config_acs from 6.11 on, and warns of the kernels that misread lists", () => {
    const old = setHost(machine, { kernelVersion: "6.1.0" });
    expect(kinds(old, gpu, disk)).not.toContain("config-acs");
    const misread = explainPair(setHost(machine, { kernelVersion: "6.12.0" }), gpu, disk);
    expect(misread.remedies[1].caution).toMatch(/misread lists/);
  });

  it("faults by the bus address under a translating IOMMU, and passes by an IOVA", () => {
    const answer = explainPair(machine, gpu, disk);
    const strict = answer.modes.find(({ mode }) => mode === "strict");
    expect(strict).toMatchObject({ form: "iova", outcome: "arrives, through the root complex" });
    expect(strict?.wrongOutcome).not.toMatch(/^arrives/);
  });
});

describe("a pair below two root ports", () => {
  it("is refused on a client CPU, where reads are known to fail, and fixed by a move", () => {
    const { machine, nic, gpu, freePort } = plannerMachine({ rootIds: [0x8086, 0xa700] });
    const { permitted, directions, remedies } = explainPair(machine, nic, gpu);
    expect(permitted).toMatchObject({ mapType: "NOT_SUPPORTED", distance: -1 });
    expect(directions.map(({ proven }) => proven.outcome)).toEqual(["works", "fails"]);
    expect(directions.every(({ route }) => route?.status === 0)).toBe(true);
    expect(remedies.map(({ kind }) => kind)).toEqual(["move-slot"]);
    expect(remedies[0].text).toContain(formatBdf(freePort));
    expect(remedies[0].after).toMatchObject({ mapType: "BUS_ADDR", distance: 4 });
  });

  it("never calls the list's gate a formality: Rocket Lake corrupts", () => {
    const { machine, nic, gpu } = plannerMachine();
    const { directions } = explainPair(machine, nic, gpu);
    expect(directions[0].proven).toMatchObject({ outcome: "corrupts" });
    expect(directions[0].proven.fact?.source).toMatch(/935/);
  });

  it("says nothing of a root complex that nothing is known of", () => {
    const { machine, nic, gpu } = plannerMachine({ rootIds: [0x1234, 0x5678] });
    expect(explainPair(machine, nic, gpu).directions[0].proven.outcome).toBe("unknown");
  });

  it("names the kernel that allows it", () => {
    const ice = plannerMachine({ rootIds: [0x8086, 0x09a2], host: { kernelVersion: "5.15.0" } });
    const { remedies } = explainPair(ice.machine, ice.nic, ice.gpu);
    expect(remedies[0]).toMatchObject({
      kind: "kernel-version",
      text: "Run Linux 5.18 or later, whose rules allow this pair.",
      after: { mapType: "THRU_HOST_BRIDGE", distance: 6 },
    });
  });

  it("depends on the CPU where the dump does not name it", () => {
    const host = { cpuVendor: null, cpuFamily: null, architecture: null };
    const { machine, nic, gpu } = plannerMachine({ rootIds: [0x1d17, 0x071f], host });
    const { depends, answer } = explainPair(machine, nic, gpu);
    expect(depends[0].text).toMatch(/AMD family 17h or later: THRU_HOST_BRIDGE/);
    expect(answer).toMatchObject({ permitted: false, certain: false, usable: false });
    const text = renderExplanation(explainPair(machine, nic, gpu));
    expect(text).toMatch(/no\? {2}NOT_SUPPORTED/);
    expect(text).toMatch(
      /^answer {3}\? no: the kernel refuses this pair: they share.*\n.*\ndepends {2}the CPU is/,
    );
    // Below a host bridge of Intel's no CPU of AMD's can be.
    const intel = plannerMachine({ host });
    expect(explainPair(intel.machine, intel.nic, intel.gpu).answer.certain).toBe(true);
  });
});

describe("what the dump does not tell", () => {
  it("is the kernel: the answer says from which one on it holds", () => {
    const rootIds = [0x8086, 0x09a2] as const;
    const { machine, nic, gpu, disk } = plannerMachine({ rootIds, host: { kernelVersion: null } });
    const { answer, depends } = explainPair(machine, nic, gpu);
    expect(answer).toMatchObject({ permitted: true, certain: false, usable: true });
    expect(depends.map(({ text }) => text)).toEqual([
      "the kernel version is not in the dump; before Linux 5.18: NOT_SUPPORTED",
    ]);
    expect(depends[0].remedy).toContain("--kernel");
    const told = setHost(machine, { kernelVersion: "5.15.0" });
    expect(explainPair(told, nic, gpu).answer).toMatchObject({ permitted: false, certain: true });
    // A rule set that was asked for, and a pair below one switch, do not ask for the kernel.
    const asked = explainPair(machine, nic, gpu, { rules: "linux-5.14" });
    expect(asked.answer.certain).toBe(true);
    expect(explainPair(machine, gpu, disk).answer.certain).toBe(true);
  });

  it("is the IOMMU's mode, but not that there is one: groups tell", () => {
    const { machine, nic, gpu } = plannerMachine({
      rootIds: [0x8086, 0x09a2],
      host: { iommu: null },
    });
    expect(explainPair(machine, nic, gpu).iommu).toMatchObject({ mode: "off", isKnown: false });
    const functions = machine.functions.map((fn) => ({ ...fn, iommuGroup: 4 }));
    const grouped = explainPair({ ...machine, functions }, nic, gpu);
    expect(grouped.iommu).toMatchObject({ mode: "strict", isKnown: false });
    expect(grouped.iommu.grounds).toMatch(/^group 4 of 0000:00:00\.0 .*: taken as strict$/);
    expect(grouped.address?.form).toBe("iova");
    expect(grouped.answer.text).toMatch(/^yes, through the root complex by IOVA \(the IOMMU fau/);
  });

  it("is the host bridge, with ids or without a function at all", () => {
    const { machine, nic, gpu } = plannerMachine();
    const [first] = machine.functions;
    const noIds = {
      ...machine,
      functions: machine.functions.map((fn) =>
        fn === first ? { ...fn, vendorId: 0xffff, unknown: [unknown("vendorId")] } : fn,
      ),
    };
    const filtered = {
      ...machine,
      sources: [{ file: "topology.xml", format: "hwloc-xml" }],
      functions: machine.functions.slice(1),
    };
    for (const one of [noIds, filtered]) {
      const { answer, depends } = explainPair(one, nic, gpu);
      expect(answer).toMatchObject({ permitted: false, certain: false });
      const bridge = depends.find(({ remedy }) => remedy.includes("--set-id"));
      expect(bridge?.text).toMatch(/which host bridge 0000:00:00\.0 is, .*: THRU_HOST_BRIDGE/);
      const option = parseWhatIf({ setId: ["00:00.0=8086:09a2"] });
      const settled = explainPair(applyWhatIf(one, option).machine, nic, gpu);
      expect(settled.answer).toMatchObject({ permitted: true, certain: true });
    }
    // A dump that lists everything tells that there is no device 00.0.
    const whole = { ...filtered, sources: machine.sources };
    expect(explainPair(whole, nic, gpu).answer.certain).toBe(true);
  });
});

const unknown = (field: string) => ({ field, consequence: "" });

describe("two changes", () => {
  it("are given together where none alone helps, and verified", () => {
    const { machine, gpu, farDisk } = plannerMachine({ acs: 0x1d, host: { iommu: "strict" } });
    const { remedies, permitted } = explainPair(machine, gpu, farDisk);
    expect(permitted.route).toBe("none");
    expect(remedies.map(({ kind }) => kind)).toEqual(["two-changes", "two-changes"]);
    expect(remedies[0].text).toMatch(/^Both: Move .* Boot with RR.* off at/);
    expect(remedies[0].command).toMatch(/^pci=config_acs=/);
    expect(remedies[0].weakensIsolation).toBe(true);
    expect(remedies[0].after).toMatchObject({ mapType: "BUS_ADDR", route: "bus" });
  });
});

describe("the three answers", () => {
  it("stay apart: permitted, and lost on the way", () => {
    const { machine, gpu, disk } = plannerMachine();
    const shut = setCommand(machine, gpu, 0x2);
    const explanation = explainPair(shut, gpu, disk);
    expect(explanation.answer).toMatchObject({ permitted: true, routable: false, usable: false });
    expect(explanation.answer.text).toMatch(/permits it, but a write does not arrive/);
    expect(renderExplanation(explanation)).toMatch(/it is permitted; for the requests to arrive/);
    expect(explainPair(machine, gpu, disk).answer).toMatchObject({
      permitted: true,
      certain: true,
      routable: true,
      proven: "works",
      usable: true,
    });
  });
});

describe("gates", () => {
  it("shut by Bus Master Enable are named with the line that opens them", () => {
    const { machine, gpu, disk } = plannerMachine();
    const shut = setCommand(machine, gpu, 0x2);
    const answer = explainPair(shut, gpu, disk);
    expect(answer.permitted.mapType).toBe("BUS_ADDR");
    expect(answer.directions[0].route?.status).not.toBe(0);
    expect(answer.gates.map(({ command }) => command)).toEqual([
      `setpci -s ${formatBdf(gpu)} COMMAND=0004:0004`,
    ]);
  });

  it("include a root port that turns back what a switch redirects", () => {
    const { machine, gpu, disk, left } = plannerMachine({
      host: { cpuVendor: "AuthenticAMD", cpuFamily: 0x19 },
      acs: 0x0d,
    });
    const answer = explainPair(machine, gpu, disk);
    expect(answer.permitted.mapType).toBe("THRU_HOST_BRIDGE");
    expect(answer.gates[0]?.command).toBe(`setpci -s ${formatBdf(left)} ECAP_ACS+0x6.w=0010:0010`);
  });
});

describe("text and JSON", () => {
  const machine = shippedMachine("hgx-h100-gpud.vvv.txt");
  const answer = explainPair(machine, parseBdf("1a:00.0"), parseBdf("19:00.0"));

  it("keep the three answers apart", () => {
    const text = renderExplanation(answer);
    expect(text).toMatch(/permitted +routable +proven/);
    expect(text).toMatch(/write +yes +BUS_ADDR, distance 4 +yes +below the root complex/);
    for (const line of text.split("\n")) expect(line.length).toBeLessThan(160);
  });

  it("hold no number that JSON cannot", () => {
    const json = JSON.parse(JSON.stringify(explanationJson(answer)));
    expect(json.directions.write.routable.outcome).toBe("success");
    expect(json.initiator.bdf).toBe("0000:1a:00.0");
    expect(JSON.stringify(json)).not.toContain("null,null,null,null");
  });

  it("refuses BARs that are not there", () => {
    const [a, b] = [parseBdf("1a:00.0"), parseBdf("19:00.0")];
    expect(() => explainPair(machine, a, b, { bar: 3 })).toThrow(/no memory BAR 3/);
    expect(explainPair(machine, a, b, { bar: 0 }).bar?.index).toBe(0);
  });

  it("works without any BAR", () => {
    const bare = plannerMachine();
    const functions = bare.machine.functions.map((fn) =>
      fn.bdf === bare.disk ? { ...fn, bars: [] } : fn,
    );
    const none = explainPair({ ...bare.machine, functions }, bare.gpu, bare.disk);
    expect(none.bar).toBeNull();
    expect(renderExplanation(none)).toMatch(/no memory BAR with an address/);
    expect(none.answer).toMatchObject({ permitted: true, routable: false, usable: false });
    expect(none.answer.text).toMatch(/no memory to reach at .*: it has no memory BAR/);
    // Of a dump that tells no BARs nobody can say.
    const blind = functions.map((fn) =>
      fn.bdf === bare.disk ? { ...fn, unknown: [unknown("bars")] } : fn,
    );
    const hidden = explainPair({ ...bare.machine, functions: blind }, bare.gpu, bare.disk);
    expect(hidden.answer).toMatchObject({ routable: null, usable: true });
    const { notes } = explainPair(bare.machine, bare.gpuPort, bare.disk);
    expect(notes.join()).toMatch(/is a bridge: it issues no DMA of its own/);
  });
});
