/**
 * A connection between the two sides of an RDMA pair with memory on both, for contract suites and
 * properties: queue pairs, completion queues, registered host memory, and short ways to post and
 * reap.
 */

import { type Cq, type Mr, type Pd, type Qp, RecvWr, SendWr, Wc } from "../src/rdma/index.ts";
import { Access, WcStatus, WrFlag, WrOpcode } from "../src/spec/rdma/index.ts";
import type { RdmaPair, RdmaSide } from "./rdma-pair.ts";

export const MEMORY_BYTES = 4 * 1024 * 1024;
export const ALL_ACCESS = Access.localWrite | Access.remoteWrite | Access.remoteRead;

export interface EndOptions {
  readonly maxSend?: number;
  readonly maxRecv?: number;
  readonly maxSge?: number;
  readonly maxRecvSge?: number;
  readonly cqDepth?: number;
  readonly signalAll?: boolean;
  readonly remoteAccess?: number;
  readonly access?: number;
}

/** One end: what a test holds. */
export interface End {
  readonly side: RdmaSide;
  readonly pd: Pd;
  readonly cq: Cq;
  readonly qp: Qp;
  readonly mr: Mr;
  readonly bytes: Uint8Array;
  /** Address of `bytes[offset]` in the region's terms. */
  at(offset: number): number;
}

/** A completion as plain data. */
export type Reaped = Readonly<Record<keyof Wc, number>>;

export async function makeEnd(side: RdmaSide, options: EndOptions = {}): Promise<End> {
  const pd = await side.rdma.allocPd();
  const cq = await side.rdma.createCq(options.cqDepth ?? 1024);
  const qp = await side.rdma.createQp(pd, {
    sendCq: cq,
    recvCq: cq,
    maxSend: options.maxSend ?? 128,
    maxRecv: options.maxRecv ?? 128,
    maxSge: options.maxSge ?? 4,
    maxRecvSge: options.maxRecvSge ?? 4,
    signalAll: options.signalAll ?? false,
    ...(options.remoteAccess === undefined ? {} : { remoteAccess: options.remoteAccess }),
  });
  const memory = side.host(MEMORY_BYTES);
  const mr = await pd.registerMemory(memory, 0, MEMORY_BYTES, options.access ?? ALL_ACCESS);
  const { bytes } = memory.region;
  return { side, pd, cq, qp, mr, bytes, at: (offset) => mr.address + offset };
}

export interface Ends {
  readonly pair: RdmaPair;
  readonly a: End;
  readonly b: End;
}

export interface ConnectRdmaOptions {
  readonly rnrRetryCount?: number;
  readonly retryCount?: number;
  readonly initiatorDepth?: number;
  readonly responderResources?: number;
}

/** Two ends connected through the connection manager, as users do it. */
export async function connectEnds(
  pair: RdmaPair,
  options: EndOptions & { readonly connect?: ConnectRdmaOptions } = {},
): Promise<Ends> {
  const a = await makeEnd(pair.a, options);
  const b = await makeEnd(pair.b, options);
  const { retryCount, rnrRetryCount, ...depths } = options.connect ?? {};
  let accepted: Promise<unknown> | null = null;
  const listener = pair.b.rdma.cm.listen(4420, (request) => {
    const rnr = rnrRetryCount === undefined ? {} : { rnrRetryCount };
    accepted = request.accept(b.qp, rnr);
  });
  const { address } = pair.b;
  const retry = retryCount === undefined ? {} : { retryCount };
  const rnr = rnrRetryCount === undefined ? {} : { rnrRetryCount };
  await pair.drive(
    pair.a.rdma.cm.connect({ qp: a.qp, address, port: 4420, ...retry, ...rnr, ...depths }),
  );
  if (accepted !== null) await pair.drive(accepted as Promise<unknown>);
  listener.close();
  return { pair, a, b };
}

/** All completions that are there. */
export function reap(cq: Cq): Reaped[] {
  const wc = new Wc();
  const reaped: Reaped[] = [];
  while (cq.poll(wc)) reaped.push({ ...wc });
  return reaped;
}

/** Short forms of work requests: signaled unless said otherwise. */
export function send(end: End, offset: number, length: number, wrId = 0): SendWr {
  const wr = new SendWr(4);
  wr.wrId = wrId;
  wr.opcode = WrOpcode.send;
  wr.flags = WrFlag.signaled;
  wr.setSge(end.at(offset), length, end.mr.lkey);
  if (length === 0) wr.sgeCount = 0;
  return wr;
}

export function rdma(
  opcode: typeof WrOpcode.rdmaRead | typeof WrOpcode.rdmaWrite | typeof WrOpcode.rdmaWriteWithImm,
  end: End,
  offset: number,
  length: number,
  peer: End,
  peerOffset: number,
  wrId = 0,
): SendWr {
  const wr = send(end, offset, length, wrId);
  wr.opcode = opcode;
  wr.remoteAddress = peer.at(peerOffset);
  wr.rkey = peer.mr.rkey;
  return wr;
}

export function recv(end: End, offset: number, length: number, wrId = 0): RecvWr {
  const wr = new RecvWr(4);
  wr.wrId = wrId;
  if (length > 0) wr.setSge(end.at(offset), length, end.mr.lkey);
  return wr;
}

/** Fills `length` bytes at `offset` with something that tells positions apart. */
export function pattern(end: End, offset: number, length: number, seed = 1): Uint8Array {
  const part = end.bytes.subarray(offset, offset + length);
  for (let i = 0; i < length; i++) part[i] = (i * 7 + (i >> 8) * 13 + seed * 31) & 0xff;
  return part.slice();
}

export const statusesOf = (completions: readonly Reaped[]): number[] =>
  completions.map(({ status }) => status);
export const idsOf = (completions: readonly Reaped[]): number[] =>
  completions.map(({ wrId }) => wrId);
export const allSucceeded = (completions: readonly Reaped[]): boolean =>
  completions.every(({ status }) => status === WcStatus.success);
