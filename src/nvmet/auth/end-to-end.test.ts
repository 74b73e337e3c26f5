/** Authentication of a host by a target over TCP, both ours, and of hosts that misbehave. */
import { describe, expect, it } from "vitest";
import { HOST_NQN, SUBSYSTEM_NQN } from "../../../testing/nvmet-harness.ts";
import { type TcpHarness, tcpHarness } from "../../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../../testing/nvmet-transport-contract.ts";
import { Prng } from "../../core/index.ts";
import type { HashName, Random } from "../../platform/index.ts";
import { NvmOpcode } from "../../spec/nvme/index.ts";
import {
  DISCOVERY_NQN,
  FabricsSc,
  SecureChannel,
  TcpSecurity,
  TransportRequirement,
  TransportType,
} from "../../spec/nvmf/index.ts";
import {
  type DhGroup,
  deriveTlsPsk,
  fabricsStatus,
  generateDhchapKey,
  generateTlsKey,
  type HostKeys,
  parseDhchapKey,
  parseTlsKey,
  type Secret,
} from "../index.ts";

const random: Random = (bytes) => new Prng(11).fill(bytes);
const newKey = (seed: number, hash: HashName | null = "sha256"): Secret =>
  parseDhchapKey(generateDhchapKey(hash, (bytes) => new Prng(seed).fill(bytes)));
const KEY = newKey(1);
const CTRL = newKey(2, "sha512");

async function guarded(keys: HostKeys): Promise<TcpHarness> {
  const harness = await tcpHarness();
  harness.target.security.set(HOST_NQN, keys);
  return harness;
}

/** The error of a connect that must fail. */
async function refused(harness: TcpHarness, options: object): Promise<string> {
  const host = harness.host(options);
  const error = await harness.reactor.settle(host.connect(), "connect").then(
    () => null,
    (caught: Error) => caught,
  );
  expect(error).not.toBeNull();
  return `${error}`;
}

const VARIANTS: [HashName, DhGroup][] = [
  ["sha256", null],
  ["sha384", "ffdhe2048"],
  ["sha512", "ffdhe8192"],
];

it.each(VARIANTS)("both sides prove themselves: %s, %s", async (hash, group) => {
  const keys = { dhchapHashes: [hash], dhchapGroups: [group] };
  const harness = await guarded({ dhchapKey: KEY, dhchapCtrlKey: CTRL, ...keys });
  const bench = await Bench.open(harness, {
    queues: 2,
    credentials: { key: KEY, ctrlKey: CTRL, random },
  });
  const data = await bench.data(4096);
  expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
  expect(harness.target.security.counters).toMatchObject({ authenticated: 3, failed: 0 });
  // Again, while the queue is in use.
  await bench.settle(bench.host.authenticate());
  await bench.settle(bench.host.authenticate(bench.queue));
  expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(0);
  expect(harness.target.security.counters.authenticated).toBe(5);
});

it("takes any of a host's keys while one is replaced, and no other", async () => {
  const [old, other] = [newKey(3), newKey(4)];
  const harness = await guarded({ dhchapKey: KEY, dhchapOtherKeys: [old] });
  for (const key of [KEY, old]) await Bench.open(harness, { credentials: { key, random } });
  expect(await refused(harness, { credentials: { key: other, random } })).toMatch(/authenticat/i);
  expect(JSON.stringify(harness.target.security.inspect())).toContain('"dhchapOtherKeys":1');
});

it("one side is enough, and a host without keys is not asked", async () => {
  const harness = await guarded({ dhchapKey: KEY });
  await Bench.open(harness, { credentials: { key: KEY, random } });
  const open = await tcpHarness();
  await Bench.open(open, { credentials: { key: KEY, random } });
  expect(open.target.security.counters.authenticated).toBe(0);
});

it("a wrong key, no key, and a controller with the wrong key are refused", async () => {
  const harness = await guarded({ dhchapKey: KEY, dhchapCtrlKey: CTRL });
  const wrong = await refused(harness, { credentials: { key: CTRL, random } });
  expect(wrong).toMatch(/the target says: authentication failed/);
  expect(await refused(harness, {})).toMatch(/wants this host to authenticate/);
  const ctrl = await refused(harness, { credentials: { key: KEY, ctrlKey: KEY, random } });
  expect(ctrl).toMatch(/the controller has not the key/);
  await quiesce(harness);
  expect(harness.target.isIdle).toBe(true);
  expect(harness.target.security.counters).toMatchObject({ authenticated: 0, failed: 2 });
  // And a target that asks nothing of a host that wants to know it.
  const open = await tcpHarness();
  const asks = await refused(open, { credentials: { key: KEY, ctrlKey: CTRL, random } });
  expect(asks).toMatch(/authentication failed/);
});

it("takes nothing else before, and drops who never comes to it", async () => {
  const harness = await guarded({ dhchapKey: KEY });
  const host = harness.host({ credentials: { key: KEY, random } });
  // A host that does everything but authenticate.
  host.authenticate = () => Promise.resolve();
  const error = await harness.reactor.settle(host.connect(), "connect").catch((e) => e);
  expect(error.details.status).toBe(fabricsStatus(FabricsSc.AUTHENTICATION_REQUIRED));
  const silent = harness.host({ credentials: { key: KEY, random } });
  silent.authenticate = () => new Promise(() => undefined);
  void silent.connect().catch(() => undefined);
  await quiesce(harness);
  expect(harness.subsystem.controllers.size).toBe(1);
  harness.advance(121e9);
  await quiesce(harness);
  expect(harness.subsystem.controllers.size).toBe(0);
  expect(harness.target.security.counters.timedOut).toBe(1);
});

it("a queue that fails to authenticate again is dropped, and who waits is told", async () => {
  const harness = await guarded({ dhchapKey: KEY });
  const bench = await Bench.open(harness, { credentials: { key: KEY, random } });
  await bench.settle(bench.host.enableEvents(0x100));
  harness.target.security.set(HOST_NQN, { dhchapKey: CTRL });
  const again = bench.settle(bench.host.authenticate());
  await expect(again).rejects.toThrow(/authentication failed/);
  await quiesce(harness);
  expect(bench.host.ended).not.toBeNull();
  expect(harness.target.isIdle).toBe(true);
});

it("an I/O queue is not usable before it is authenticated", async () => {
  const harness = await guarded({ dhchapKey: KEY });
  const host = harness.host({ credentials: { key: KEY, random } });
  const whole = host.authenticate.bind(host);
  // Only the Admin Queue.
  host.authenticate = (queue) => (queue?.qid === 0 ? whole(queue) : Promise.resolve());
  await harness.reactor.settle(host.connect(), "connect");
  const bench = new Bench(harness, host);
  const data = await bench.data(4096);
  const status = bench.io(NvmOpcode.write, 0, 8, data);
  expect(status).toBe(fabricsStatus(FabricsSc.AUTHENTICATION_REQUIRED));
});

describe("TLS", () => {
  const secret = parseTlsKey(generateTlsKey((bytes) => new Prng(21).fill(bytes)));
  const psk = (host: string, subsystem: string) => deriveTlsPsk(secret, host, subsystem);
  const OTHER = "nqn.2026-11.test.peerlane:other";

  async function secured(tls: "required" | "allowed", client = psk(HOST_NQN, SUBSYSTEM_NQN)) {
    const harness = await tcpHarness({ port: { tls }, host: { tls: client } });
    harness.subsystem.allowHost(OTHER);
    for (const nqn of [HOST_NQN, OTHER]) harness.target.security.set(nqn, { tlsKeys: [secret] });
    return harness;
  }

  it("opens with the host's key, and authentication works inside it", async () => {
    const harness = await secured("required");
    const keys = { dhchapKey: KEY, tlsKeys: [secret] };
    harness.target.security.set(HOST_NQN, keys);
    const bench = await Bench.open(harness, { credentials: { key: KEY, random } });
    const data = await bench.data(4096);
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
    expect(harness.transport.inspect()).toMatchObject({ connections: [{ tls: true }, {}] });
  });

  it("gives nobody the name or the subsystem of another", async () => {
    const byName = await secured("required");
    expect(await refused(byName, { hostNqn: OTHER })).toMatch(/Connect Invalid Parameters/);
    const elsewhere = await secured("required", psk(HOST_NQN, DISCOVERY_NQN));
    expect(await refused(elsewhere, {})).toMatch(/Connect Invalid Parameters/);
    const unknown = await secured(
      "required",
      psk("nqn.2026-11.test.peerlane:third", SUBSYSTEM_NQN),
    );
    expect(await refused(unknown, {})).toMatch(/no TLS/);
    expect(unknown.target.security.counters.tlsUnknownIdentity).toBe(1);
  });

  it("is told in the discovery log", async () => {
    for (const [tls, channel] of [
      ["required", SecureChannel.REQUIRED],
      ["allowed", SecureChannel.NOT_REQUIRED],
    ] as const) {
      const harness = await secured(tls, psk(HOST_NQN, DISCOVERY_NQN));
      const bench = await Bench.open(harness, { subsystemNqn: DISCOVERY_NQN });
      const entries = await bench.settle(bench.host.discoveryLog());
      const entry = entries.find(({ transport }) => transport === TransportType.TCP);
      expect(entry?.tcpSecurity).toBe(TcpSecurity.tls13);
      const { secureChannel } = TransportRequirement;
      expect(secureChannel.get(entry?.requirements ?? 0)).toBe(channel);
    }
  });

  it("is left out only where it is allowed to be", async () => {
    const open = await tcpHarness({ port: { tls: "allowed" } });
    await Bench.open(open);
    const closed = await tcpHarness({ port: { tls: "required" } });
    expect(await refused(closed, {})).toMatch(/required/);
  });
});
