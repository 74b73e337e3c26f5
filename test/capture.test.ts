/**
 * A real target on loopback records itself, a host does a bit of everything to it, and tshark says
 * what it thinks of the file: a dissector of NVMe/TCP that nobody here wrote.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { encodeLayout, PeerlaneError } from "../src/core/index.ts";
import { type Network, realClock, realNetwork, realRecordFiles } from "../src/platform/index.ts";
import { Capture, type TargetService } from "../src/scenario/index.ts";
import { NvmeStatus, statusCode } from "../src/spec/nvme/index.ts";
import { TCP_H2C_TERM_REQ, TCP_HLEN, TCP_ICREQ, TcpFes, TcpPdu } from "../src/spec/nvmf/index.ts";
import { discoverySession, diskSession, type SessionOptions } from "../testing/capture-session.ts";
import { openService } from "../testing/target-service.ts";
import { dissect, findTshark, TSHARK_MISSING } from "../testing/tshark.ts";

const NQN = "nqn.2026-11.test.peerlane:disk";
const HOST = "nqn.2026-11.test.peerlane:h";
/** Without HPDA: Wireshark (4.0, and its sources of 2025) takes the padding for data. */
const MODES = [
  {},
  { headerDigest: true, disableSqFlowControl: true },
  { dataDigest: true },
  { headerDigest: true, dataDigest: true, disableSqFlowControl: true },
];
/** Blocks: in the capsule, and beyond; one PDU and many. */
const SIZES = [1, 8, 16, 17, 256, 600];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-capture-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function openTarget(path: string): Promise<TargetService> {
  const open = (addresses: readonly string[]): Promise<TargetService> =>
    openService({
      capture: { path, overwrite: true },
      log: { level: "error" },
      subsystems: [{ nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "64M" }] }],
      ports: addresses.map((address, i) => ({
        portid: i + 1,
        addr_traddr: address,
        addr_trsvcid: 0,
        subsystems: [NQN],
      })),
    });
  return open(["127.0.0.1", "::1"]).catch((error: unknown) => {
    // A machine without IPv6.
    if (error instanceof PeerlaneError && error.code === "listen-failed")
      return open(["127.0.0.1"]);
    throw error;
  });
}

function bare(type: TcpPdu, values: Record<string, number> = {}): Uint8Array {
  const length = TCP_HLEN[type] as number;
  const bytes = new Uint8Array(length);
  const layout = type === TcpPdu.ICREQ ? TCP_ICREQ : TCP_H2C_TERM_REQ;
  encodeLayout(layout, { "PDU-Type": type, HLEN: length, PLEN: length, ...values }, bytes);
  return bytes;
}

/** Sends PDUs, and waits until the target has ended the connection. */
async function breakRules(network: Network, to: SessionOptions["at"], pdus: Uint8Array[]) {
  const stream = await network.connect(to);
  await new Promise<void>((resolve) => {
    stream.start({
      onData: () => undefined,
      onDrain: () => undefined,
      onEnd: () => resolve(),
    });
    for (const bytes of pdus) stream.write(bytes);
  });
}

it("tshark finds nothing wrong in a capture, and counts what the target counted", async (context) => {
  if (findTshark() === null) context.skip(TSHARK_MISSING);
  const path = join(folder, "target.pcapng");
  const hostPath = join(folder, "host.pcapng");
  const service = await openTarget(path);
  const hostSide = new Capture({ files: realRecordFiles, clock: realClock });
  hostSide.start({ path: hostPath, max_bytes: 2 ** 30, overwrite: false });
  const network = hostSide.around(realNetwork);
  const ports = [...service.server.ports.values()];
  const session = { network, subsystemNqn: NQN, hostNqn: HOST, sizes: SIZES };
  for (const [i, mode] of MODES.entries()) {
    const { at } = ports[i % ports.length] as (typeof ports)[number];
    expect(await discoverySession({ ...session, ...mode, at })).toBe(1 + ports.length);
    const statuses = await diskSession({ ...session, ...mode, at });
    expect(statuses.map(statusCode)).toEqual(
      expect.arrayContaining([NvmeStatus.compareFailure, NvmeStatus.lbaOutOfRange]),
    );
  }
  const { at } = ports[0] as (typeof ports)[number];
  const icreq = bare(TcpPdu.ICREQ);
  await breakRules(network, at, [icreq, icreq]);
  await breakRules(network, at, [icreq, bare(TcpPdu.H2C_TERM_REQ, { FES: 1 })]);
  hostSide.close();
  const received = new Array<number>(TCP_HLEN.length).fill(0);
  const sent = received.slice();
  const count = (): void => {
    for (const { transport } of ports) {
      const { traffic } = transport;
      traffic.received.forEach((n, type) => {
        received[type] = (received[type] as number) + n;
      });
      traffic.sent.forEach((n, type) => {
        sent[type] = (sent[type] as number) + n;
      });
    }
  };
  await service.close();
  count();

  // The second ICReq is a PDU on the wire, and was not taken.
  received[TcpPdu.ICREQ] = (received[TcpPdu.ICREQ] as number) + 1;
  const listening = ports.map((port) => port.at.port);
  const target = dissect(path, listening);
  expect(target.complaints).toEqual([]);
  expect(target.received).toEqual(received);
  expect(target.sent).toEqual(sent);
  // Of each kind there was one at least.
  const kinds = [...Object.values(TcpPdu)];
  expect(kinds.filter((type) => (received[type] as number) + (sent[type] as number) === 0)).toEqual(
    [],
  );
  expect(target.terminations).toEqual([TcpFes.PDU_SEQUENCE_ERROR]);
  expect(target.goodHeaderDigests).toBeGreaterThan(200);
  expect(target.goodDataDigests).toBeGreaterThan(100);
  // The host saw the same from its side.
  const host = dissect(hostPath, listening);
  expect(host.complaints).toEqual([]);
  expect([host.sent, host.received]).toEqual([target.received, target.sent]);
  expect(host.connections).toBe(target.connections);
}, 120_000);
