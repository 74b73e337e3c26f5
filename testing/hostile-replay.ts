/**
 * Plays what a captured host said against a whole target, whole or damaged, beside a host that
 * behaves, and checks what must hold whatever comes:
 *
 * - what the target sends is well-formed, each command is answered at most once, and by a status
 *   that exists; no answer is missing that the host could not have prevented;
 * - a connection is ended exactly when a PDU breaks the protocol, by one C2HTermReq whose status
 *   tcp-reference.ts allows for the PDU that it quotes;
 * - nobody is served who did not prove who he is, and fused pairs are pairs (session-reference.ts);
 * - afterwards nothing is left of it: connections, controllers, requests, buffers, host memory;
 * - the host that behaves reads what it wrote.
 */

import { crc32c, Prng, viewOf } from "../src/core/index.ts";
import { parseDhchapKey, type Subsystem } from "../src/nvmet/index.ts";
import type { ByteStream, MemoryNetworkOptions, StreamEvents } from "../src/platform/index.ts";
import { AdminOpcode, formatStatus, NvmOpcode } from "../src/spec/nvme/index.ts";
import {
  ConnectDataOffset,
  FABRICS_OPCODE,
  FABRICS_SC_NAMES,
  FABRICS_SCT,
  FabricsType,
  TCP_CAPSULE_AT,
  TCP_FES_NAMES,
  TCP_HLEN,
  TcpChOffset,
  TcpDataOffset,
  TcpFlag,
  TcpPdu,
  TcpTermOffset,
} from "../src/spec/nvmf/index.ts";
import { type CapturedSession, wholePduAt } from "./captured-host.ts";
import type { HostData } from "./nvmet-harness.ts";
import { type TcpHarness, tcpHarness } from "./nvmet-tcp-harness.ts";
import { Bench } from "./nvmet-transport-contract.ts";
import { sealPdu } from "./pdu-mutator.ts";
import {
  dataOf,
  isChallenge,
  judgeSession,
  replyTo,
  type Said,
  SECURE_HOST,
} from "./session-reference.ts";
import { addStore } from "./target-rig.ts";
import { type Judgement, judgeStream, type SentR2t, type Written } from "./tcp-reference.ts";

const NQN = "nqn.2026-11.dev.peerlane:target";
const ADDRESS = { address: "127.0.0.1", port: 4420 };
const DISK_BYTES = 64 * 2 ** 20;
/** Rounds of polling that a step may take before it counts as hanging. */
const ROUNDS_MAX = 20_000;
/** Idle rounds in a row that mean that nothing moves any more. */
const QUIET_ROUNDS = 6;
const NEIGHBOUR_BYTES = 16 * 1024;
const NEIGHBOUR_BLOCKS = NEIGHBOUR_BYTES / 512;

function fail(what: string): never {
  throw new Error(`hostile replay: ${what}`);
}

/** One of the host's connections. */
export class Played implements StreamEvents {
  readonly sent: Written[] = [];
  /** Whole PDUs that the target sent. */
  readonly answers: Uint8Array[] = [];
  readonly r2ts: SentR2t[] = [];
  /** Both sides, in order. */
  readonly said: Said[] = [];
  /** The last one of the target: what a host's reply depends on. */
  challenge: Uint8Array | null = null;
  private rest: Uint8Array = new Uint8Array(0);
  ended: string | null = null;
  stream: ByteStream | null = null;

  onData(bytes: Uint8Array): void {
    // Lent to who connected: copied.
    const all = Uint8Array.from(Buffer.concat([this.rest, bytes]));
    let at = 0;
    for (;;) {
      const length = wholePduAt(all, at);
      if (length === 0) break;
      this.take(all.subarray(at, at + length));
      at += length;
    }
    this.rest = all.subarray(at);
  }
  onDrain(): void {
    // Writes go on: memory is bounded by the capture.
  }
  onEnd(reason: string): void {
    this.ended = reason;
  }

  /** The target is in the middle of a PDU. */
  get isInside(): boolean {
    return this.rest.length > 0;
  }

  private take(pdu: Uint8Array): void {
    this.answers.push(pdu);
    this.said.push({ isHost: false, pdu });
    if (pdu[0] === TcpPdu.C2H_DATA && isChallenge(dataOf(pdu))) this.challenge = dataOf(pdu);
    if (pdu[0] !== TcpPdu.R2T) return;
    const view = viewOf(pdu);
    this.r2ts.push({
      cid: view.getUint16(TcpDataOffset.CCCID, true),
      tag: view.getUint16(TcpDataOffset.TTAG, true),
      length: view.getUint32(TcpDataOffset.DATAL, true),
    });
  }
}

/** Command identifier, status and first dword of the result of each response, in order. */
export function statusesIn(answers: readonly Uint8Array[]): [number, number, number][] {
  return answers
    .filter((pdu) => pdu[0] === TcpPdu.CAPSULE_RESP)
    .map((pdu) => {
      const view = viewOf(pdu);
      return [
        view.getUint16(TCP_CAPSULE_AT + 12, true),
        view.getUint16(TCP_CAPSULE_AT + 14, true) >> 1,
        view.getUint32(TCP_CAPSULE_AT, true),
      ];
    });
}

export interface Outcome {
  readonly connections: readonly Played[];
  /** Connections that ended with a C2HTermReq, by FES. */
  readonly terminations: readonly number[];
}

/** What to send instead of a PDU; `index` counts those of the session. */
export type Mutate = (pdu: Uint8Array, index: number) => readonly Uint8Array[];
export const unchanged: Mutate = (pdu) => [pdu];

export type PayloadWay = "host-memory" | "cmb" | "no-disk";

export class HostileReplay {
  readonly harness: TcpHarness;
  private readonly subsystem: Subsystem;
  private readonly neighbour: Bench;
  private readonly data: HostData;
  private readonly prng: Prng;
  private readonly baseline: string;

  private constructor(
    harness: TcpHarness,
    subsystem: Subsystem,
    neighbour: Bench,
    data: HostData,
    prng: Prng,
  ) {
    this.harness = harness;
    this.subsystem = subsystem;
    this.neighbour = neighbour;
    this.data = data;
    this.prng = prng;
    this.baseline = this.residue();
  }

  /** The hostile host's payload is staged in host memory, in the SSD's CMB, or there is no SSD. */
  static async open(
    seed: number,
    { way = "host-memory", ...network }: MemoryNetworkOptions & { way?: PayloadWay } = {},
  ): Promise<HostileReplay> {
    const provider = way === "cmb";
    const challenges = new Prng(seed);
    const namespaces = [{ sizeBytes: 2 ** 20 }, { sizeBytes: DISK_BYTES }];
    const harness = await tcpHarness({
      network,
      rig: {
        disk: { namespaces },
        random: (bytes) => challenges.fill(bytes),
        ...(provider ? { description: "lease", provider: "cmb", p2pmem: { kind: "off" } } : {}),
      },
    });
    const { assembly, disk } = harness.rig;
    const subsystem = assembly.addSubsystem({ nqn: NQN, allowAnyHost: true });
    const p2pmem = provider ? ({ p2pmem: { kind: "auto" } } as const) : {};
    if (way === "no-disk") addStore(subsystem, harness.rig.diskModel, 1);
    else assembly.addDisk(subsystem, disk, { index: 1, ...p2pmem });
    assembly.target.link(harness.port, subsystem);
    assembly.target.security.set(SECURE_HOST.nqn, {
      dhchapKey: parseDhchapKey(SECURE_HOST.key),
      dhchapCtrlKey: parseDhchapKey(SECURE_HOST.ctrlKey),
    });
    const neighbour = await Bench.open(harness, { depth: 8, inCapsuleBytes: 8192 });
    const data = await neighbour.data(2 * NEIGHBOUR_BYTES);
    const replay = new HostileReplay(harness, subsystem, neighbour, data, new Prng(seed));
    replay.write();
    await replay.settle();
    return replay;
  }

  /** Plays a session, ends its connections, and checks all that must hold. Throws otherwise. */
  async play(session: CapturedSession, mutate: Mutate = unchanged): Promise<Outcome> {
    const connections = Array.from({ length: session.connections }, () => new Played());
    const cntlid = { of: -1 };

    for (const [index, { connection, pdu }] of session.steps.entries()) {
      const played = connections[connection] as Played;
      if (played.ended !== null) continue;
      if (played.stream === null) {
        played.stream = await this.harness.network.connect(ADDRESS);
        played.stream.start(played);
      }
      const r2tsBefore = played.r2ts.length;
      const writes = mutate(adapted(pdu, played, cntlid), index)
        .filter(({ length }) => length > 0)
        .map((bytes) => ({ bytes, r2tsBefore, r2tsAfter: r2tsBefore }));
      played.sent.push(...writes);
      for (const { bytes } of writes) {
        played.said.push({ isHost: true, pdu: bytes });
        played.stream.write(bytes);
      }
      await this.settle();
      const r2tsAfter = played.r2ts.length;
      for (const written of writes) written.r2tsAfter = r2tsAfter;
    }
    const outcome = { connections, terminations: connections.flatMap(check) };
    for (const { stream } of connections) {
      if (this.prng.below(2) === 0) stream?.end();
      else stream?.destroy();
    }
    await this.settle();
    const left = this.residue();
    if (left !== this.baseline) fail(`something is left: ${left}, before ${this.baseline}`);
    this.read();
    this.write();
    return outcome;
  }

  /** Polls until nothing moves; throws when that never is. */
  private async settle(): Promise<void> {
    const { reactor } = this.harness;
    let rounds = 0;
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      quiet = reactor.round() === 0 ? quiet + 1 : 0;
      if (++rounds > ROUNDS_MAX) fail("it never comes to rest");
      await Promise.resolve();
    }
  }

  /** What connections leave behind when they are not cleaned up, as text to compare. */
  private residue(): string {
    const { transport, rig, target } = this.harness;
    const { assembly, fabric } = rig;
    const busy = [...this.subsystem.allNamespaces()].map(({ inFlight }) => inFlight);
    const memory = /"freeBytes":\d+/.exec(JSON.stringify(fabric.inspect()))?.[0];
    if (memory === undefined) fail("the fabric does not say how much host memory is free");
    return JSON.stringify({
      connections: transport.connections,
      controllers: [...target.allControllers()].length,
      mine: this.subsystem.controllers.size,
      busy,
      pools: assembly.orchestrator.hostPools,
      memory,
      providers: assembly.registry
        .providers()
        .map(({ pool, references }) => [pool.available, references]),
      leases: [...assembly.orchestrator.choices()].length,
    });
  }

  /** The neighbour writes something new. */
  private write(): void {
    this.prng.fill(this.data.bytes.subarray(0, NEIGHBOUR_BYTES));
    const status = this.neighbour.io(NvmOpcode.write, 0, NEIGHBOUR_BLOCKS, this.data);
    if (status !== 0) fail(`the neighbour cannot write: ${formatStatus(status)}`);
  }

  /** And reads it back. */
  private read(): void {
    const { bytes } = this.data;
    bytes.fill(0, NEIGHBOUR_BYTES);
    const { data } = this;
    const status = this.neighbour.io(NvmOpcode.read, 0, NEIGHBOUR_BLOCKS, data, NEIGHBOUR_BYTES);
    if (status !== 0) fail(`the neighbour cannot read: ${formatStatus(status)}`);
    const [wrote, got] = [bytes.subarray(0, NEIGHBOUR_BYTES), bytes.subarray(NEIGHBOUR_BYTES)];
    if (Buffer.compare(wrote, got) !== 0) fail("the neighbour's data changed");
  }
}

/**
 * The captured PDU with what this target chose: its controller's number, its transfer tags, and the
 * response to its challenge.
 */
function adapted(pdu: Uint8Array, played: Played, cntlid: { of: number }): Uint8Array {
  const copy = Uint8Array.from(pdu);
  const view = viewOf(copy);
  const sqe = TCP_CAPSULE_AT;
  if (copy[0] === TcpPdu.H2C_DATA) {
    const cid = view.getUint16(TcpDataOffset.CCCID, true);
    const r2t = played.r2ts.findLast((one) => one.cid === cid);
    if (r2t !== undefined) view.setUint16(TcpDataOffset.TTAG, r2t.tag, true);
    answerChallenge(copy, played);
  }
  if (copy[0] !== TcpPdu.CAPSULE_CMD) return sealed(copy);
  if (played.sent.length === 2) {
    // The Connect of an Admin Queue has been answered.
    const answer = played.answers.find((one) => one[0] === TcpPdu.CAPSULE_RESP);
    if (answer !== undefined) cntlid.of = viewOf(answer).getUint16(TCP_CAPSULE_AT, true);
  }
  if (copy[sqe] !== FABRICS_OPCODE) return copy;
  if (copy[sqe + 4] === FabricsType.CONNECT && view.getUint16(sqe + 42, true) !== 0) {
    view.setUint16((copy[TcpChOffset.PDO] as number) + ConnectDataOffset.CNTLID, cntlid.of, true);
  }
  if (copy[sqe + 4] === FabricsType.AUTHENTICATION_SEND) answerChallenge(copy, played);
  return sealed(copy);
}

function sealed(pdu: Uint8Array): Uint8Array {
  sealPdu(pdu);
  return pdu;
}

function answerChallenge(pdu: Uint8Array, { challenge }: Played): void {
  if (challenge !== null) replyTo(dataOf(pdu), challenge, NQN);
}

/** What must hold for one connection. Returns the FES of its C2HTermReq, if there is one. */
function check(played: Played): number[] {
  const judgement = judgeStream(played.sent, played.r2ts);
  const { answers } = played;
  if (played.isInside) fail("the target stopped in the middle of a PDU");
  for (const [i, pdu] of answers.entries()) checkAnswer(pdu, i === 0, judgement.digests);
  const terms = answers.filter((pdu) => pdu[0] === TcpPdu.C2H_TERM_REQ);
  const [term] = terms;
  if (terms.length > 1 || (term !== undefined && term !== answers.at(-1))) {
    fail("a C2HTermReq is not the last word");
  }
  if (term !== undefined) {
    if (played.ended === null) fail("the connection goes on after a C2HTermReq");
    checkTermination(term, judgement);
  } else if (judgement.isBad && played.ended === null) {
    const { must, header } = judgement.pdus.at(-1) as Judgement["pdus"][number];
    fail(`not refused: ${Buffer.from(header).toString("hex")}, for ${must}`);
  } else if (judgement.isTerminated && played.ended === null) {
    fail("the connection goes on after a H2CTermReq");
  }
  checkResponses(played, judgement, answers);
  const [complaint] = judgeSession(played.said);
  if (complaint !== undefined) fail(complaint);
  return term === undefined ? [] : [viewOf(term).getUint16(TcpTermOffset.FES, true)];
}

function checkAnswer(pdu: Uint8Array, isFirst: boolean, digests: number): void {
  const type = pdu[0] as number;
  const hlen = TCP_HLEN[type] ?? 0;
  const flags = pdu[TcpChOffset.FLAGS] as number;
  const isLegal = [1, 3, 5, 7, 9].includes(type) && pdu[TcpChOffset.HLEN] === hlen;
  if (!isLegal) fail(`the target sent a PDU of type ${type}`);
  if (isFirst && type !== TcpPdu.ICRESP && type !== TcpPdu.C2H_TERM_REQ) {
    fail("the target's first PDU is no ICResp");
  }
  if (type < TcpPdu.CAPSULE_CMD) return;
  const hasDigest = (digests & 1) !== 0;
  if (((flags & TcpFlag.hdgst) !== 0) !== hasDigest) fail("a header digest is there or not there");
  if (hasDigest && viewOf(pdu).getUint32(hlen, true) !== crc32c(pdu, 0, hlen)) {
    fail("the target's header digest is wrong");
  }
  if (type !== TcpPdu.C2H_DATA || (digests & 2) === 0) return;
  const pdo = pdu[TcpChOffset.PDO] as number;
  const end = pdu.length - 4;
  if (viewOf(pdu).getUint32(end, true) !== crc32c(pdu, pdo, end - pdo)) {
    fail("the target's data digest is wrong");
  }
}

function checkTermination(term: Uint8Array, judgement: Judgement): void {
  const view = viewOf(term);
  const fes = view.getUint16(TcpTermOffset.FES, true);
  const said = `${fes}:${view.getUint32(TcpTermOffset.FEI, true)}`;
  if (TCP_FES_NAMES[fes] === undefined) fail(`FES ${fes} does not exist`);
  const quoted = Buffer.from(term.subarray(TCP_HLEN[TcpPdu.C2H_TERM_REQ]));
  const quotes = judgement.pdus.filter(({ header }) =>
    quoted.equals(header.subarray(0, quoted.length)),
  );
  if (quotes.length === 0) fail(`a C2HTermReq quotes ${quoted.toString("hex")}, which nobody sent`);
  if (quotes.some(({ must, maybe }) => must.includes(said) || maybe.includes(said))) return;
  const could = quotes.map(({ must, maybe }) => `${must} / ${maybe}`).join("; ");
  fail(`${said} for ${quoted.toString("hex")}; it could be ${could}`);
}

/** Each command at most one answer, with a status that exists; none missing without a reason. */
function checkResponses(played: Played, { pdus }: Judgement, answers: readonly Uint8Array[]): void {
  const commands = pdus.filter(({ type, isWhole }) => type === TcpPdu.CAPSULE_CMD && isWhole);
  const open = new Map<number, number>();
  for (const { cid } of commands) open.set(cid, (open.get(cid) ?? 0) + 1);
  const answered = (cid: number): void => {
    const left = (open.get(cid) ?? 0) - 1;
    if (left < 0) fail(`command ${cid} has more answers than it was sent`);
    open.set(cid, left);
  };
  for (const [cid, status] of statusesIn(answers)) {
    answered(cid);
    const text = formatStatus(status);
    const isFabrics = ((status >> 8) & 7) === FABRICS_SCT;
    const isKnown = isFabrics && FABRICS_SC_NAMES[status & 0xff] !== undefined;
    if (/status \(SCT/.test(text) && !isKnown) fail(`a status that does not exist: ${text}`);
  }
  for (const pdu of answers) {
    const isSuccess = pdu[0] === TcpPdu.C2H_DATA && ((pdu[1] as number) & TcpFlag.success) !== 0;
    if (isSuccess) answered(viewOf(pdu).getUint16(TcpDataOffset.CCCID, true));
  }
  if (played.ended !== null) return;
  for (const [cid, left] of open) {
    if (left > 0 && !mayWait(cid, left, commands, answers)) fail(`command ${cid} has no answer`);
  }
}

/** Asynchronous events, data that was asked for and did not come, first halves of fused pairs. */
function mayWait(
  cid: number,
  left: number,
  commands: Judgement["pdus"],
  answers: readonly Uint8Array[],
): boolean {
  const of = commands.filter((command) => command.cid === cid);
  const waiting = of.filter(
    ({ opcode, flags }) => opcode === AdminOpcode.asyncEventRequest || (flags & 3) !== 0,
  ).length;
  const asked = answers.filter(
    (pdu) => pdu[0] === TcpPdu.R2T && viewOf(pdu).getUint16(TcpDataOffset.CCCID, true) === cid,
  ).length;
  return left <= waiting + asked;
}
