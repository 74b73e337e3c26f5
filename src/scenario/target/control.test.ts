/** The control socket on a real target with a connected host, and against hostile clients. */

import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectionsOf, readCapture, sentBy } from "../../../testing/capture-reader.ts";
import { parseExposition } from "../../../testing/prometheus.ts";
import { openService, serviceHost } from "../../../testing/target-service.ts";
import { CONTROL_LINE_BYTES_MAX } from "../../core/index.ts";
import { realClock, realLocalSockets, realNetwork } from "../../platform/index.ts";
import { NvmeStatus, NvmOpcode } from "../../spec/nvme/index.ts";
import { callTarget, parseParameters } from "./control-client.ts";
import { parseTargetConfig } from "./load.ts";
import { targetMetrics } from "./metrics.ts";
import type { TargetService } from "./service.ts";

const NQN = "nqn.2026-11.test.peerlane:live";
const HOST = "nqn.2026-11.test.peerlane:h";

let folder: string;
let path: string;
let service: TargetService;
let lines: string[];
const errors: unknown[] = [];
const closers: (() => void)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-ctl-"));
  path = join(folder, "control.sock");
  lines = [];
  errors.length = 0;
  service = await open();
});

afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await service.close();
  await rm(folder, { recursive: true });
  expect(errors).toEqual([]);
});

function open(control = path): Promise<TargetService> {
  const config = {
    control,
    log: { format: "json" },
    subsystems: [{ nqn: NQN, allowed_hosts: [HOST], namespaces: [{ nsid: 1, size: "1M" }] }],
    ports: [{ portid: 1, addr_trsvcid: 0, subsystems: [NQN] }],
  };
  return openService(config, { lines, errors });
}

const ask = (method: string, params: object = {}): Promise<unknown> =>
  callTarget(realLocalSockets, realClock, path, method, params);

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !isSo(); i++) await realClock.sleep(5000);
  expect(isSo()).toBe(true);
}

async function connect(portid = 1) {
  const made = serviceHost(service.server, NQN, HOST, portid);
  closers.push(() => made.loop.stop());
  await made.host.connect();
  return made;
}

describe("a running target", () => {
  it("gains and loses namespaces under a host", async () => {
    const { host, io } = await connect();
    expect(await io(NvmOpcode.write, 1)).toBe(0);
    const file = join(folder, "disk.img");
    await ask("namespace.add", { subsystem: NQN, nsid: 2, device_path: file, size: "2M" });
    expect(await io(NvmOpcode.write, 2)).toBe(0);
    expect((await readFile(file)).length).toBe(2 ** 21);
    await expect(
      ask("namespace.add", { subsystem: NQN, nsid: 3, device_path: file }),
    ).rejects.toThrow(/another namespace is in/);
    await ask("namespace.disable", { subsystem: NQN, nsid: 1 });
    expect((await io(NvmOpcode.read, 1)) & 0x7ff).toBe(NvmeStatus.invalidNamespaceOrFormat);
    await ask("namespace.enable", { subsystem: NQN, nsid: 1 });
    expect(await io(NvmOpcode.read, 1)).toBe(0);
    await ask("namespace.set", { subsystem: NQN, nsid: 1, read_only: true });
    expect((await io(NvmOpcode.write, 1)) & 0x7ff).toBe(NvmeStatus.namespaceWriteProtected);
    // Removed under load: every command ends, and the file is free afterwards.
    const load = Array.from({ length: 12 }, () => io(NvmOpcode.write, 2));
    await ask("namespace.remove", { subsystem: NQN, nsid: 2 });
    expect(await Promise.all(load)).toHaveLength(12);
    expect((await io(NvmOpcode.read, 2)) & 0x7ff).toBe(NvmeStatus.invalidNamespaceOrFormat);
    await ask("namespace.add", { subsystem: NQN, nsid: 9, device_path: file });
    expect(await io(NvmOpcode.read, 9)).toBe(0);
    await host.disconnect();
  });

  it("records the connections that begin between capture start and stop", async () => {
    const early = await connect();
    const file = join(folder, "c.pcapng");
    await ask("capture.start", { path: file, max_bytes: "64M" });
    await expect(ask("capture.start", { path: `${file}2` })).rejects.toThrow(/running already/);
    const late = await connect();
    expect([await early.io(NvmOpcode.write, 1), await late.io(NvmOpcode.write, 1)]).toEqual([0, 0]);
    expect(await ask("capture.status")).toMatchObject({ running: true, connections: 2 });
    const end = (await ask("capture.stop")) as { packets: number };
    await late.host.disconnect();
    await early.host.disconnect();
    const read = readCapture(await readFile(file));
    expect(read.end).toEqual({ received: end.packets, comment: "stopped by targetctl" });
    const port = service.server.ports.get(1)?.at.port;
    const found = connectionsOf(read);
    expect(found.map(({ near, ending }) => [near, ending])).toEqual([
      [`127.0.0.1:${port}`, "open"],
      [`127.0.0.1:${port}`, "open"],
    ]);
    // The 4 KiB that `io` writes.
    expect(Buffer.from(sentBy(found[1] as never, true)).includes(Buffer.alloc(4096, 0x5a))).toBe(
      true,
    );
    await expect(ask("capture.start", { path: file })).rejects.toMatchObject({
      code: "file-exists",
    });
    await ask("capture.start", { path: file, overwrite: true });
    expect(lines.join("")).toMatch(
      /"event":"capture-stopped","path":"[^"]*c.pcapng","packets":\d+/,
    );
  });

  it("lets go of hosts, ports and subsystems, and ends what they had", async () => {
    const first = await connect();
    const at = (await ask("port.add", { portid: 2, addr_trsvcid: 0, subsystems: [NQN] })) as object;
    const second = await connect(2);
    const { target } = service.server.assembly;
    const controllers = (): number => [...target.allControllers()].length;
    expect(controllers()).toBe(2);
    await ask("port.remove", { portid: 2 });
    await until(() => controllers() === 1);
    await expect(realNetwork.connect(at as never)).rejects.toThrow(/cannot reach/);
    expect(await first.io(NvmOpcode.read, 1)).toBe(0);
    await ask("ana.set", { portid: 1, grpid: 1, ana_state: "inaccessible" });
    expect((await first.io(NvmOpcode.read, 1)) & 0x7ff).toBe(NvmeStatus.anaInaccessible);
    await ask("ana.set", { portid: 1, grpid: 1 });
    await ask("host.disallow", { subsystem: NQN, host: HOST });
    await until(() => controllers() === 0);
    await expect(connect()).rejects.toThrow();
    await ask("subsystem.any_host", { subsystem: NQN, allow: true });
    await connect();
    await ask("subsystem.remove", { subsystem: NQN });
    await until(() => controllers() === 0);
    expect(service.server.subsystems.size).toBe(0);
    expect(service.server.ports.get(1)?.config.subsystems).toEqual([]);
    second.loop.stop();
  });

  it("saves what it has become, and hides keys in what it shows", async () => {
    const key = "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:";
    await ask("host.add", { nqn: HOST, dhchap_key: key });
    await ask("referral.add", { portid: 1, name: "r", addr_traddr: "10.0.0.9" });
    await ask("subsystem.add", { nqn: `${NQN}2`, attr_allow_any_host: true });
    await ask("port.link", { portid: 1, subsystem: `${NQN}2` });
    await ask("ana.set", { portid: 1, grpid: 3, ana_state: "non-optimized" });
    const { yaml } = (await ask("save")) as { yaml: string };
    const { config } = parseTargetConfig(yaml, "saved.yaml");
    expect(config).toEqual(service.server.configuration);
    expect(config.ports[0]).toMatchObject({
      subsystems: [NQN, `${NQN}2`],
      referrals: [{ name: "r" }],
      ana_groups: [{ grpid: 3, ana_state: "non-optimized" }],
    });
    expect(config.hosts[0]?.dhchap_key).toBe(key);
    const shown = JSON.stringify(await ask("show"));
    expect(shown).not.toContain("DHHC");
    await ask("port.unlink", { portid: 1, subsystem: `${NQN}2` });
    await ask("referral.remove", { portid: 1, name: "r" });
    await ask("host.remove", { nqn: HOST });
    expect(JSON.stringify(await ask("show"))).not.toContain("referrals");
    // Keys never reach the log, which has a line for every change.
    const events = lines.map((line) => JSON.parse(line) as { event: string; method?: string });
    expect(events.map(({ method }) => method)).toContain("referral.remove");
    expect(lines.join("")).not.toContain("DHHC");
    await ask("log.level", { level: "error" });
    const before = lines.length;
    await ask("host.add", { nqn: HOST });
    expect(lines.length).toBe(before);
  });

  it("shows no key anywhere, in no form", async () => {
    const dhchap = "ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n";
    const tls = "VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ";
    await ask("host.add", {
      nqn: HOST,
      dhchap_key: [`DHHC-1:00:${dhchap}:`, `DHHC-1:00:${dhchap}:`],
      dhchap_ctrl_key: `DHHC-1:00:${dhchap}:`,
      tls_key: [`NVMeTLSkey-1:01:${tls}:`, `NVMeTLSkey-1:01:${tls}:`],
    });
    for (const method of ["inspect", "status", "show", "capture.status"]) {
      const text = JSON.stringify(await ask(method));
      for (const secret of [dhchap, tls]) {
        const bytes = Buffer.from(secret, "base64").subarray(0, 32);
        // As it was given, as hexadecimal digits, as a list of numbers.
        expect(text).not.toContain(secret.slice(0, 16));
        expect(text).not.toContain(bytes.toString("hex").slice(0, 16));
        expect(text).not.toContain([...bytes.subarray(0, 6)].join(","));
      }
    }
    // It was looked at: the host is there.
    expect(JSON.stringify(await ask("inspect"))).toContain(HOST);
    expect(JSON.stringify(await ask("inspect"))).toContain('"security"');
  });

  it("says what is wrong with a request, and stays as it was", async () => {
    const before = JSON.stringify(await ask("show"));
    const missing = join(folder, "missing.img");
    const wrong: [string, object, RegExp][] = [
      ["namespace.add", { subsystem: NQN, nsid: 1, size: "1M" }, /a namespace 1 already/],
      ["namespace.add", { subsystem: NQN, nsid: 2 }, /needs a size/],
      ["namespace.add", { subsystem: NQN, nsid: 2, device_path: missing }, /cannot open/],
      ["namespace.add", { subsystem: NQN, nsid: 2, buffered_io: false }, /page cache/],
      ["namespace.add", { subsystem: "x", nsid: 2 }, /not an NVMe Qualified Name/],
      ["namespace.remove", { subsystem: `${NQN}9`, nsid: 2 }, /no subsystem/],
      ["port.add", { portid: 1 }, /there is a port 1 already/],
      ["port.add", { portid: 7, addr_traddr: "192.0.2.1" }, /cannot listen/],
      ["port.add", { portid: 7, subsystems: [`${NQN}9`] }, /no subsystem/],
      ["port.remove", { portid: 3 }, /no port 3/],
      ["referral.remove", { portid: 1, name: "none" }, /no referral none/],
      ["subsystem.add", { nqn: NQN }, /already/],
      ["reboot", {}, /no method reboot/],
      ["status", { colour: "red" }, /Unrecognized key/],
    ];
    for (const [method, params, message] of wrong) {
      await expect(ask(method, params), `${method} ${JSON.stringify(params)}`).rejects.toThrow(
        message,
      );
    }
    expect(JSON.stringify(await ask("show"))).toBe(before);
    await expect(stat(missing)).rejects.toThrow(/ENOENT/);
  });

  it("tells what payload costs: buffers in use, by whom, and copies", async () => {
    const { host, io, flood } = await connect();
    expect(await io(NvmOpcode.write, 1)).toBe(0);
    await flood(NvmOpcode.read, 8, 2 ** 20);
    await until(() => host.inFlight === 0);
    const status = (await ask("status")) as Record<string, never>;
    expect(status).toMatchObject({
      memory: { inFlightBytes: 0, waiting: 0, reservesInUse: 0, pools: [{ nic: "cpu" }] },
      payload: { bytes: 8 * 2 ** 20 + 4096 },
      ports: [{ stalled: 0 }],
      controllers: [{ inFlightBytes: 0 }],
    });
    const { samples } = parseExposition(targetMetrics(service.server));
    const value = (name: string, labels: object): number | undefined =>
      samples.find(
        (sample) =>
          sample.name === `peerlane_target_${name}` &&
          Object.entries(labels).every(([key, of]) => sample.labels[key] === of),
      )?.value;
    expect(value("memory_pool_bytes", { state: "used", mover: "cpu" })).toBe(0);
    expect(value("memory_pool_bytes", { state: "free", mover: "cpu" })).toBe(64 * 2 ** 20);
    expect(value("queue_payload_bytes", { qid: "1" })).toBe(0);
    expect(value("queue_waiting", { qid: "1" })).toBe(0);
    // Eight of 1 MiB: as many as a connection may hold, and none had to wait.
    expect(value("queue_waits_total", { qid: "1" })).toBe(0);
    expect(value("port_copied_bytes_total", { direction: "transmit" })).toBeGreaterThan(
      8 * 2 ** 20,
    );
    expect(value("port_stalled_connections_total", { portid: "1" })).toBe(0);
    await host.disconnect();
  });

  it("counts what hosts do, in Prometheus' format", async () => {
    const { host, io } = await connect();
    for (let i = 0; i < 5; i++) expect(await io(NvmOpcode.write, 1)).toBe(0);
    expect(await io(NvmOpcode.read, 1)).toBe(0);
    expect(await io(NvmOpcode.read, 7)).not.toBe(0);
    const { samples, families } = parseExposition(targetMetrics(service.server));
    const value = (name: string, labels: object): number | undefined =>
      samples.find(
        (sample) =>
          sample.name === name &&
          Object.entries(labels).every(([key, of]) => sample.labels[key] === of),
      )?.value;
    const of = { subsystem: NQN, nsid: "1" };
    const name = "peerlane_target_namespace";
    const ok = { ...of, status: "success" };
    expect(value(`${name}_commands_total`, { ...ok, opcode: "write" })).toBe(5);
    expect(value(`${name}_commands_total`, { ...ok, opcode: "read" })).toBe(1);
    expect(value(`${name}_written_bytes_total`, of)).toBe(5 * 4096);
    expect(value(`${name}_command_duration_seconds_count`, { ...of, kind: "write" })).toBe(5);
    const sum = value(`${name}_command_duration_seconds_sum`, { ...of, kind: "write" }) ?? 0;
    expect(sum).toBeGreaterThan(0);
    expect(value("peerlane_target_port_connections", { portid: "1" })).toBe(2);
    expect(value("peerlane_target_controllers", { subsystem: NQN })).toBe(1);
    // With its Connect.
    expect(value("peerlane_target_queue_commands_total", { qid: "1" })).toBe(8);
    expect(value("peerlane_target_port_receive_bytes_total", {})).toBeGreaterThan(5 * 4096);
    expect(families.size).toBeGreaterThan(20);
    await host.disconnect();
  });
});

describe("control socket", () => {
  it("is its user's alone, and replaces what a dead process left", async () => {
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await expect(open()).rejects.toThrow(/another program listens/);
    const plain = join(folder, "plain");
    await writeFile(plain, "mine");
    await expect(open(plain)).rejects.toThrow(/is no socket/);
    expect(await readFile(plain, "utf8")).toBe("mine");
    await expect(open(join(folder, "x".repeat(120)))).rejects.toThrow(/too long/);
    await expect(callTarget(realLocalSockets, realClock, plain, "status", {})).rejects.toThrow(
      /cannot reach/,
    );
    await chmod(folder, 0o700);
  });

  it("bounds what a client costs, and serves the next one", async () => {
    const talk = async (parts: (string | Uint8Array)[]): Promise<string> => {
      const stream = await realLocalSockets.connect(path);
      let text = "";
      let ended = false;
      stream.start({
        onData: (bytes) => {
          text += new TextDecoder().decode(bytes);
        },
        onDrain: () => undefined,
        onEnd: () => {
          ended = true;
        },
      });
      for (const part of parts) {
        stream.write(typeof part === "string" ? new TextEncoder().encode(part) : part);
      }
      await until(() => text.includes("\n") || ended);
      stream.destroy();
      return text;
    };
    const long = new Uint8Array(CONTROL_LINE_BYTES_MAX + 1).fill(0x20);
    expect(await talk([long])).toMatch(/a line has at most/);
    expect(await talk(["not json\n"])).toMatch(/not a JSON document/);
    expect(await talk(["[]\n"])).toMatch(/not a JSON-RPC 2.0 request/);
    expect(await talk([`{"jsonrpc":"2.0","id":1,"method":"${"x".repeat(9999)}"}\n`])).toMatch(
      /no method/,
    );
    // In pieces, and two at once.
    const status = '{"jsonrpc":"2.0","id":"a","method":"status"}\n';
    const cut = [...status].map((character) => character);
    expect(JSON.parse((await talk(cut)).split("\n")[0] as string)).toMatchObject({ id: "a" });
    const many = await Promise.all(Array.from({ length: 12 }, () => talk([status + status])));
    expect(many.every((text) => text.includes('"id":"a"'))).toBe(true);
    // Many that say nothing: the next is refused, not kept.
    const idle = await Promise.all(
      Array.from({ length: 16 }, () => realLocalSockets.connect(path)),
    );
    await realClock.sleep(50e3);
    expect(await talk([])).toBe("");
    for (const stream of idle) stream.destroy();
    await realClock.sleep(50e3);
    expect(await ask("status")).toHaveProperty("uptimeSeconds");
  });
});

it("reads parameters as people type them", () => {
  const words = ["subsystem=nqn.2026-11.a:b", "nsid=1", "size=1G", "on=true", "at=[{a: 1}]"];
  expect(parseParameters(words)).toEqual({
    subsystem: "nqn.2026-11.a:b",
    nsid: 1,
    size: "1G",
    on: true,
    at: [{ a: 1 }],
  });
  expect(parseParameters(["addr_traddr=::1"])).toEqual({ addr_traddr: "::1" });
  for (const bad of ["nsid", "=1", "a=[1"]) expect(() => parseParameters([bad])).toThrow(/no para/);
});
