/** A target with TLS and authentication, and a remote host of it, on real sockets. */
import { afterEach, expect, it } from "vitest";
import { sameSwitch } from "../../testing/machines.ts";
import { generateDhchapKey, generateTlsKey, parseDhchapKey, parseTlsKey } from "../nvmet/index.ts";
import { realClock, realNetwork, realRandom } from "../platform/index.ts";
import { discover, type RemoteOptions, RemoteSubsystem } from "./connect.ts";
import { TargetServer } from "./serve.ts";
import { targetConfigSchema } from "./target/index.ts";
import type { ServedPort } from "./target/served.ts";

const NQN = "nqn.2026-11.test.peerlane:secure";
const HOST = "nqn.2026-11.test.peerlane:h";
const dhchap = generateDhchapKey("sha256", realRandom);
const ctrl = generateDhchapKey("sha384", realRandom);
const tls = generateTlsKey(realRandom);

const servers: TargetServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serve() {
  const port = { addr_trsvcid: 0, subsystems: [NQN] };
  const keys = { dhchap_key: dhchap, dhchap_ctrl_key: ctrl, dhchap_dhgroup: "ffdhe2048" };
  const events: string[] = [];
  const server = await TargetServer.open({
    machine: sameSwitch(),
    config: targetConfigSchema.parse({
      hosts: [{ nqn: HOST, ...keys, tls_key: tls }],
      subsystems: [{ nqn: NQN, allowed_hosts: [HOST], namespaces: [{ nsid: 1, size: 2 ** 22 }] }],
      ports: [
        { ...port, portid: 1, addr_tsas: "tls1.3" },
        { ...port, portid: 2 },
      ],
    }),
    network: realNetwork,
    clock: realClock,
    onEvent: ({ what, reason }) => events.push(`${what} ${reason}`),
    onAuthentication: ({ what, qid }) => events.push(`${what} ${qid}`),
    onError: (error) => events.push(String(error)),
  });
  servers.push(server);
  const at = (id: number) => (server.ports.get(id) as ServedPort).at;
  const remote = (port: number, more: Partial<RemoteOptions> = {}): RemoteOptions => ({
    addresses: [at(port)],
    subsystemNqn: NQN,
    hostNqn: HOST,
    network: realNetwork,
    clock: realClock,
    credentials: {
      key: parseDhchapKey(dhchap),
      ctrlKey: parseDhchapKey(ctrl),
      random: realRandom,
    },
    ...more,
  });
  return { server, events, remote, at };
}

it("reads over TLS after both sides have proved themselves, and shows no key", async () => {
  const { server, events, remote } = await serve();
  const secured = remote(1, { tlsKey: parseTlsKey(tls) });
  const subsystem = await RemoteSubsystem.open(secured);
  expect(subsystem.info()).toMatchObject({
    namespaces: [{ nsid: 1, sizeBytes: 2 ** 22 }],
    paths: [{ state: "live" }],
  });
  expect((await subsystem.read(1, 0, 4096)).length).toBe(2 ** 21);
  const bench = { nsid: 1, blockSize: 4096, depth: 4, seconds: 0.2, seed: 1 };
  const result = await subsystem.bench(bench);
  expect(result.errors).toBe(0);
  expect(result.ios).toBeGreaterThan(4);
  expect(result.latencyUs.p50).toBeLessThanOrEqual(result.latencyUs.max);
  expect(await subsystem.verify(1, 8, 3000, 5)).toBe(-1);
  expect((await subsystem.read(1, 8, 1)).some((byte) => byte !== 0)).toBe(true);
  await expect(subsystem.verify(1, 8190, 8, 5)).rejects.toThrow(/lba out of range/i);
  await expect(subsystem.read(9, 0, 1)).rejects.toMatchObject({ code: "no-namespace" });
  const shown = JSON.stringify([server.inspect(), subsystem.info(), events, secured]);
  for (const key of [dhchap, ctrl, tls]) expect(shown).not.toContain(key.slice(12, 40));
  await subsystem.close();
  expect(events.filter((event) => event.startsWith("authenticated")).length).toBeGreaterThan(1);
});

it("uses two ports as two paths, and tells at once who refuses and why", async () => {
  const { remote, at } = await serve();
  const other = parseDhchapKey(generateDhchapKey(null, realRandom));
  const attempts: [RemoteOptions, RegExp][] = [
    [remote(1), /no connection/],
    [remote(1, { tlsKey: parseTlsKey(generateTlsKey(realRandom)) }), /no TLS/],
    [remote(2, { hostNqn: "nqn.2026-11.test.peerlane:x" }), /Connect Invalid Host/],
    [remote(2, { credentials: { key: other, random: realRandom } }), /authentication failed/],
  ];
  for (const [options, why] of attempts) {
    await expect(RemoteSubsystem.open(options)).rejects.toThrow(why);
  }
  const subsystem = await RemoteSubsystem.open(remote(2, { addresses: [at(2), at(2)] }));
  expect((await subsystem.read(1, 8, 8)).length).toBe(4096);
  await subsystem.close();
  const names = (await discover(remote(2))).map(({ subsystemNqn }) => subsystemNqn);
  expect(names.filter((name) => name === NQN).length).toBe(2);
});
