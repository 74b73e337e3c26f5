/**
 * What hostile peers cost a target on real sockets, and that another host goes on meanwhile. Times
 * are short, so that each attack is over in about a second; what is held is counted.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { DeafNetwork } from "../../../testing/deaf-network.ts";
import { expectNothingHeld } from "../../../testing/held-memory.ts";
import { openService, type ServiceHost, serviceHost } from "../../../testing/target-service.ts";
import {
  CONTROL_LINE_TIMEOUT_MS,
  encodeLayout,
  TCP_SEND_BUFFER_BYTES,
  TCP_SEND_BUFFERS_MAX,
} from "../../core/index.ts";
import {
  listenHttp,
  ManualClock,
  realClock,
  realLocalSockets,
  realNetwork,
  type StreamEvents,
} from "../../platform/index.ts";
import { NvmOpcode } from "../../spec/nvme/index.ts";
import { TCP_HLEN, TCP_ICREQ, TcpPdu } from "../../spec/nvmf/index.ts";
import { ControlSocket } from "./control-socket.ts";
import type { TargetService } from "./service.ts";

const NQN = "nqn.2026-11.test.peerlane:limits";
const HOST = "nqn.2026-11.test.peerlane:good";
const EVIL = "nqn.2026-11.test.peerlane:evil";
const MIB = 2 ** 20;
const CONNECTIONS = 12;
const TLS_KEY = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
const PLAIN_PORT = 1;
const TLS_PORT = 2;
/** What a peer is given that never becomes a host, in tests of such peers. */
const ICREQ_MS = 400;
const CONNECT_MS = 1200;
const STALL_MS = 500;
/** Elsewhere: a busy machine may stop this process, and with it hosts that mean well, for long. */
const LONG_MS = 60_000;

let folder: string;
let service: TargetService;
let good: ServiceHost;
const lines: string[] = [];
const errors: unknown[] = [];
const sockets: Socket[] = [];
const evil: ServiceHost[] = [];
const networks: DeafNetwork[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-limits-"));
  const config = {
    control: join(folder, "control.sock"),
    metrics: "127.0.0.1:0",
    limits: {
      max_connections: CONNECTIONS,
      max_in_flight_bytes: 8 * MIB,
      icreq_timeout_ms: ICREQ_MS,
      connect_timeout_ms: CONNECT_MS,
      stall_timeout_ms: STALL_MS,
      transfer_timeout_ms: 1500,
    },
    hosts: [{ nqn: EVIL, tls_key: TLS_KEY }],
    subsystems: [{ nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "4M" }] }],
    ports: [
      { portid: PLAIN_PORT, addr_trsvcid: 0, subsystems: [NQN] },
      { portid: TLS_PORT, addr_trsvcid: 0, subsystems: [NQN], addr_tsas: "tls1.3" },
    ],
  };
  service = await openService(config, { lines, errors });
  setPatience(LONG_MS, LONG_MS);
  good = serviceHost(service.server, NQN, HOST);
  await good.host.connect();
});

afterAll(async () => {
  good.loop.stop();
  await service.close();
  await rm(folder, { recursive: true });
});

/** Whatever happened: the good host is there, nobody else is, and nothing is held. */
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const { loop } of evil.splice(0)) loop.stop();
  for (const { streams } of networks.splice(0)) for (const stream of streams) stream.destroy();
  setPatience(LONG_MS, LONG_MS);
  service.server.assembly.target.overdue.stallTimeoutMs = STALL_MS;
  await until(() => connections() === 2);
  expectNothingHeld(service.server.assembly);
  expect(errors).toEqual([]);
  expect(await good.io(NvmOpcode.write, 1)).toBe(0);
  lines.length = 0;
});

/** Milliseconds for the ICReq and for the Connect command of a new connection. */
function setPatience(icreqMs: number, connectMs: number): void {
  const { target } = service.server.assembly;
  target.handshakeTimeoutMs = icreqMs;
  target.connectTimeoutMs = connectMs;
}

const transport = (portid = PLAIN_PORT) => {
  const port = service.server.ports.get(portid);
  if (port === undefined) throw new Error("no such port");
  return port.transport;
};
const connections = (): number => transport().connections + transport(TLS_PORT).connections;

/** For what must come, however busy the machine is: it costs time only where it does not. */
const WAIT_NS = 60e9;

async function until(isSo: () => boolean): Promise<void> {
  const endNs = realClock.nowNs() + WAIT_NS;
  while (!isSo() && realClock.nowNs() < endNs) await realClock.sleep(5000);
  expect(isSo()).toBe(true);
}

/** Works on until `isSo`: every I/O of the good host goes well. */
async function workUntil(isSo: () => boolean): Promise<void> {
  let ios = 0;
  for (const endNs = realClock.nowNs() + WAIT_NS; realClock.nowNs() < endNs; ios++) {
    const io = good.io(ios % 2 === 0 ? NvmOpcode.read : NvmOpcode.write, 1);
    expect(await Promise.race([io, realClock.sleep(30e6).then(() => lines.join(""))])).toBe(0);
    if (isSo() && ios >= 20) return;
    if (ios % 10 === 0) await realClock.sleep(1000);
  }
  expect(isSo()).toBe(true);
}

const logged = (what: RegExp): boolean => lines.some((line) => what.test(line));

function icreq(): Buffer {
  const length = TCP_HLEN[TcpPdu.ICREQ];
  const bytes = Buffer.alloc(length);
  encodeLayout(TCP_ICREQ, { "PDU-Type": TcpPdu.ICREQ, HLEN: length, PLEN: length }, bytes);
  return bytes;
}

/** A socket of a peer that is no host. */
function dial(portid = PLAIN_PORT, options: { allowHalfOpen?: boolean } = {}): Promise<Socket> {
  const { at } = transport(portid);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: at?.address ?? "", port: at?.port ?? 0, ...options });
    sockets.push(socket);
    socket.on("error", reject);
    socket.once("connect", () => resolve(socket));
  });
}

/** Sends a byte at a time until the target has had enough. */
function drip(socket: Socket, bytes: Uint8Array): () => boolean {
  let at = 0;
  let isOver = false;
  const next = (): void => {
    if (isOver) return;
    socket.write(bytes.subarray(at, ++at));
    realClock.after(20_000, next);
  };
  next();
  socket.on("close", () => {
    isOver = true;
  });
  return () => isOver;
}

/** A host that connects well and then turns on the target. */
async function turncoat(network: DeafNetwork): Promise<ServiceHost> {
  const made = serviceHost(service.server, NQN, EVIL, PLAIN_PORT, network);
  evil.push(made);
  networks.push(network);
  await made.host.connect();
  return made;
}

/** Counted: no connection holds more than its bounds, all of them no more than the pool. */
function expectBounded(): void {
  const { assembly } = service.server;
  for (const controller of assembly.target.allControllers()) {
    for (const { share } of controller.ioQueues.values()) {
      expect(share.payloadBytes).toBeLessThanOrEqual(3 * MIB);
    }
  }
  const shown = transport().inspect() as { connections: { pendingBytes: number }[] };
  const most = TCP_SEND_BUFFERS_MAX * TCP_SEND_BUFFER_BYTES + 1024;
  for (const { pendingBytes } of shown.connections) expect(pendingBytes).toBeLessThanOrEqual(most);
}

describe("peers that never become hosts", () => {
  it("cost a place until their time is over: mute ones, and slow ones", async () => {
    setPatience(ICREQ_MS, CONNECT_MS);
    await dial();
    const slow = drip(await dial(), icreq());
    const halfway = await dial();
    halfway.write(icreq());
    // A capsule's header that never ends.
    const head = Buffer.concat([icreq(), Buffer.from([TcpPdu.CAPSULE_CMD, 0, 72, 0, 72, 0, 0, 0])]);
    const slowHead = drip(await dial(), Buffer.concat([head, Buffer.alloc(64)]));
    await workUntil(() => slow() && slowHead() && transport().connections === 2);
    expect(logged(/no ICReq came/)).toBe(true);
    expect(logged(/no Connect command came/)).toBe(true);
  });

  it("are refused above the limit of connections, and let in again", async () => {
    const all = await Promise.all(Array.from({ length: 2 * CONNECTIONS }, () => dial()));
    // The good host has two of the places.
    await workUntil(() => transport().counters.refused >= CONNECTIONS + 2);
    expect(transport().counters.refused).toBe(CONNECTIONS + 2);
    expect(transport().connections).toBe(CONNECTIONS);
    expect(logged(/there are 12 connections already/)).toBe(true);
    for (const socket of all) socket.destroy();
    await until(() => transport().connections === 2);
    const again = serviceHost(service.server, NQN, EVIL);
    await again.host.connect();
    expect(await again.io(NvmOpcode.read, 1)).toBe(0);
    await again.host.disconnect();
    again.loop.stop();
  });

  it("do not hold a TLS port by handshakes that never end", async () => {
    const before = transport(TLS_PORT).counters.refused;
    const mute = await dial(TLS_PORT);
    const begun = await dial(TLS_PORT);
    // The head of a record whose ClientHello never comes.
    begun.write(Buffer.from([0x16, 3, 1, 2, 0, 1]));
    await workUntil(() => mute.destroyed && begun.destroyed);
    expect(transport(TLS_PORT).counters.refused).toBeGreaterThan(before);
  });

  it("may close a half or reset in the middle of anything", async () => {
    const { accepted } = transport().counters;
    const half = await dial(PLAIN_PORT, { allowHalfOpen: true });
    half.end(icreq());
    const cut = await dial();
    cut.write(Buffer.concat([icreq(), Buffer.from([TcpPdu.CAPSULE_CMD, 0, 72])]));
    await workUntil(() => transport().counters.accepted >= accepted + 2);
    cut.resetAndDestroy();
    await workUntil(() => transport().connections === 2);
  });
});

describe("hosts that turn on the target", () => {
  it.each([
    ["read nothing", NvmOpcode.read, (network: DeafNetwork) => network.deafen(), /took no data/],
    ["write nothing", NvmOpcode.write, (network: DeafNetwork) => network.mute(), /sent no H2CData/],
  ])("cost their share while they %s, then their connection", async (_, opcode, turn, reason) => {
    const network = new DeafNetwork(realNetwork);
    const host = await turncoat(network);
    if (opcode === NvmOpcode.read) turn(network);
    await host.flood(opcode, 15, MIB);
    turn(network);
    await workUntil(() => transport().connections > 0);
    expectBounded();
    await workUntil(() => logged(/stalled/));
    expect(logged(reason)).toBe(true);
  });

  it("cannot drag out the data of a command for ever", async () => {
    const network = new DeafNetwork(realNetwork);
    const host = await turncoat(network);
    // It never stalls for that long, whatever else keeps the machine busy.
    service.server.assembly.target.overdue.stallTimeoutMs = LONG_MS;
    await host.flood(NvmOpcode.write, 4, MIB);
    network.throttle(64);
    await workUntil(() => logged(/the data of one command took over/));
    expectBounded();
  });

  it("cost nothing that stays when they reset in the middle of transfers", async () => {
    const network = new DeafNetwork(realNetwork);
    const host = await turncoat(network);
    await host.flood(NvmOpcode.write, 8, MIB);
    await host.flood(NvmOpcode.read, 7, MIB);
    await realClock.sleep(2000);
    for (const stream of network.streams) stream.destroy();
    await workUntil(() => transport().connections === 2);
  });
});

/** What a control client hears, until it is let go. */
class Caller implements StreamEvents {
  text = "";
  isOver = false;
  onData(bytes: Uint8Array): void {
    this.text += new TextDecoder().decode(bytes);
  }
  onDrain(): void {
    // Says everything at once.
  }
  onEnd(): void {
    this.isOver = true;
  }
}

describe("clients of the control socket", () => {
  const clock = new ManualClock();
  const path = (): string => join(folder, "slow.sock");
  let control: ControlSocket;
  beforeAll(async () => {
    const context = {
      server: service.server,
      capture: service.capture,
      setLogLevel: () => undefined,
      changed: () => undefined,
    };
    control = await ControlSocket.open(realLocalSockets, path(), context, clock);
  });
  afterAll(() => control.close());

  const call = async (text: string) => {
    const stream = await realLocalSockets.connect(path());
    const caller = new Caller();
    stream.start(caller);
    stream.write(new TextEncoder().encode(text));
    return { stream, caller };
  };

  it("are let go when they never finish a line, or never take an answer", async () => {
    const request = '{"jsonrpc":"2.0","id":1,"method":"inspect"}\n';
    const slow = await call(request.slice(0, 20));
    const deaf = await call("");
    deaf.stream.pause();
    // Far more answers than the socket's buffer takes.
    deaf.stream.write(new TextEncoder().encode(request.repeat(500)));
    await workUntil(() => control.connections === 2);
    clock.advanceNs((CONTROL_LINE_TIMEOUT_MS - 1) * 1e6);
    await workUntil(() => true);
    expect(control.connections).toBe(2);
    clock.advanceNs(2e6);
    await workUntil(() => slow.caller.isOver && control.connections === 0);
    expect(slow.caller.text).toMatch(/the line was not finished in 10000 ms/);
    deaf.stream.destroy();
    const next = await call(request);
    await until(() => next.caller.text.endsWith("\n"));
    next.stream.destroy();
  });
});

it("serves metrics whoever never takes or finishes something", async () => {
  const body = "x".repeat(1 * MIB);
  const answers = new Map<string, number>();
  const answer = (path: string) => {
    answers.set(path, (answers.get(path) ?? 0) + 1);
    return { status: 200, type: "text/plain", body };
  };
  const listener = await listenHttp({ address: "127.0.0.1", port: 0 }, answer, 300);
  const { port } = listener.at;
  const open = (text: string): Socket => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("error", () => undefined);
    sockets.push(socket);
    socket.pause();
    socket.write(text);
    return socket;
  };
  const get = "GET /never-taken HTTP/1.1\r\nHost: a\r\n\r\n";
  for (let i = 0; i < 8; i++) open(get.repeat(50));
  for (let i = 0; i < 8; i++) open(get.slice(0, 20));
  // `fetch` may hang where its connection was refused.
  const fetched = async (ms: number): Promise<boolean> =>
    fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(ms) })
      .then((response) => response.text())
      .then((text) => text === body)
      .catch(() => false);
  await workUntil(() => answers.has("/never-taken"));
  let isServed = false;
  for (let i = 0; i < 100 && !isServed; i++) {
    isServed = await fetched(1000 * (1 + i));
    await realClock.sleep(20_000);
  }
  expect(isServed).toBe(true);
  // Of fifty requests at once on each connection the first alone has an answer in memory.
  expect(answers.get("/never-taken")).toBeLessThanOrEqual(8);
  await listener.close();
});
