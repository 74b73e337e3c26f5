import { describe, expect, it } from "vitest";
import { MachineBuilder, type Node, type NodeOptions } from "../../testing/machine-builder.ts";
import { busAddr, formatBdf, Prng, parseBdf, physAddr } from "../core/index.ts";
import { Provider, ProviderRegistry, Rules, Topology } from "./index.ts";

/**
 * near: on the NIC's own switch. wide, narrow: below one switch deeper. across: on another root
 * port, at the same distance as near, because the kernel's distance does not see the host bridge.
 */
function setup(cpuFamily = 25) {
  const builder = new MachineBuilder("registry", {
    cpuVendor: "AuthenticAMD",
    cpuFamily,
    kernelVersion: "7.3.4",
  });
  const root = builder.root();
  const nicPort = builder.rootPort(root);
  const { ports } = builder.switch(nicPort, 3);
  const nic = builder.endpoint(ports[0], { generation: 5, width: 16 });
  const disk = builder.endpoint(ports[0], { slot: 0, fn: 1 });
  const deep = builder.switch(ports[2], 2, {}, { generation: 5, width: 16 });
  const nodes = {
    near: builder.endpoint(ports[1]),
    narrow: builder.endpoint(deep.ports[0], { generation: 3, width: 4 }),
    wide: builder.endpoint(deep.ports[1], { generation: 5, width: 4 }),
    across: builder.endpoint(builder.rootPort(root)),
  };
  const built = builder.build();
  const registry = new ProviderRegistry(new Rules(new Topology(built)));
  const provider = (node: Node): Provider =>
    new Provider({
      owner: node.bdf,
      bar: 0,
      barOffset: 0,
      phys: physAddr(0x1000_0000),
      bus: busAddr(0x1000_0000),
      sizeBytes: 65_536,
    });
  const publish = (...names: (keyof typeof nodes)[]): Provider[] =>
    names.map((name) => {
      const made = provider(nodes[name]);
      registry.publish(made);
      return made;
    });
  return { registry, publish, nic: nic.bdf, disk: disk.bdf, nodes };
}

describe("ProviderRegistry.find", () => {
  it("takes the direct one where distance sees no difference, and says why the others lost", () => {
    const { registry, publish, nic } = setup();
    const [across, wide] = publish("across", "wide");
    const { provider, candidates } = registry.find([nic]);
    expect(provider).toBe(wide);
    const [winner, loser] = candidates;
    expect(winner.lost).toBeNull();
    expect(loser.provider).toBe(across);
    expect(loser.distance).toBe(winner.distance);
    expect(loser.lost).toBe(
      `passes the host bridge; ${formatBdf(wide.owner)} is reached by bus address`,
    );
  });

  it("then the widest, then the closest, then the first by name", () => {
    const { registry, publish, nic, disk } = setup();
    const [narrow, wide, near] = publish("narrow", "wide", "near");
    const { candidates } = registry.find([nic]);
    expect(candidates.map((c) => c.provider)).toEqual([wide, near, narrow]);
    expect(candidates[1].lost).toMatch(/^narrowest link 7\.88 GB\/s, against 15\.75 GB\/s/);
    expect(candidates[2].lost).toMatch(/^narrowest link 3\.94 GB\/s, against 15\.75 GB\/s/);
    // Seen from both the disk's own link is the narrowest: the same for wide and near.
    const both = registry.find([nic, disk]).candidates;
    expect(both.map((c) => c.provider)).toEqual([near, wide, narrow]);
    expect(both[1].lost).toMatch(/^distance 12, against 8/);
  });

  it("is none when a client is refused, and shows the verdict", () => {
    const { registry, publish, nic } = setup(0x15);
    publish("across");
    const { provider, candidates } = registry.find([nic]);
    expect(provider).toBeNull();
    expect(candidates[0].lost).toContain("No route");
    expect(registry.find([]).provider).toBeNull();
  });

  it("never gives what is torn down", async () => {
    const { registry, publish, nic } = setup();
    const [near] = publish("near");
    await near.teardown();
    expect(registry.providers()).toEqual([]);
    expect(registry.find([nic]).provider).toBeNull();
  });
});

describe("as Linux does it", () => {
  it("sums distances; -1 without clients, and as soon as one is refused", () => {
    const { registry, publish, nic, disk } = setup();
    const [near, across] = publish("near", "across");
    expect(registry.distanceMany(near, [nic])).toBe(4);
    expect(registry.distanceMany(near, [nic, disk])).toBe(8);
    expect(registry.distanceMany(near, [])).toBe(-1);
    expect(registry.distanceMany(near, [nic, parseBdf("ff:00.0")])).toBe(-1);
    expect(registry.distanceMany(across, [nic])).toBeGreaterThan(0);
    const strict = setup(0x15);
    const [refused] = strict.publish("across");
    expect(strict.registry.distanceMany(refused, [strict.nic])).toBe(-1);
  });

  it("draws among the closest, seeded", () => {
    const { registry, publish, nic } = setup();
    const [wide, narrow] = publish("wide", "narrow");
    const drawn = new Set<Provider | null>();
    for (let seed = 0; seed < 30; seed++) {
      drawn.add(registry.findLikeLinux([nic], new Prng(seed)));
    }
    expect(drawn).toEqual(new Set([wide, narrow]));
    const again = [1, 2].map(() => registry.findLikeLinux([nic], new Prng(5)));
    expect(again[0]).toBe(again[1]);
  });

  it("does not see the host bridge: a tie at equal distance", () => {
    const options: NodeOptions = {};
    const builder = new MachineBuilder("tie", { cpuVendor: "AuthenticAMD", cpuFamily: 25 });
    const root = builder.root();
    const client = builder.endpoint(builder.rootPort(root), options);
    const other = builder.endpoint(builder.rootPort(root), options);
    const built = builder.build();
    const rules = new Rules(new Topology(built));
    expect(rules.verdict(other.bdf, client.bdf)).toMatchObject({
      mapType: "THRU_HOST_BRIDGE",
      distance: 4,
    });
  });

  it("finds nothing where nothing is published", () => {
    const { registry, nic } = setup();
    expect(registry.findLikeLinux([nic], new Prng(1))).toBeNull();
  });
});
