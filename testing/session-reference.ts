/**
 * What a controller may answer in the course of one connection, said a second time and another way
 * than src/nvmet does: who must authenticate is let in by a right response alone (NVM Express Base
 * 2.0, section 8.13.5), and a fused pair is executed as a pair or not at all (section 3.4.2).
 *
 * Judges as long as the host's PDUs are whole and its command identifiers are not used twice at
 * once: what comes after could be meant in several ways. Leaves out: DH groups.
 */

import { createHmac } from "node:crypto";
import { crc32c, viewOf } from "../src/core/index.ts";
import { Fuse, NvmOpcode } from "../src/spec/nvme/index.ts";
import {
  ConnectDataOffset,
  DISCOVERY_NQN,
  FABRICS_OPCODE,
  FabricsType,
  TCP_CAPSULE_AT,
  TCP_HLEN,
  TcpChOffset,
  TcpDataOffset,
  TcpFlag,
  TcpPdu,
} from "../src/spec/nvmf/index.ts";

/** A host that must authenticate. Its keys are made up. */
export const SECURE_HOST = {
  nqn: "nqn.2026-11.dev.peerlane:secure",
  key: "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:",
  ctrlKey: "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:",
} as const;

/** One PDU, or what a host sent instead of one. */
export interface Said {
  readonly isHost: boolean;
  readonly pdu: Uint8Array;
}

const Auth = { challenge: 0x101, reply: 0x102, success1: 0x103, success2: 0x104 } as const;
/** Type and identifier of an authentication message. */
const kindOf = (message: Uint8Array): number => 256 * (message[0] ?? -1) + (message[1] ?? 0);
/** Message offsets: HL, T_ID, valid flag, sequence number, and where the values begin. */
const HL = 6;
const T_ID = 4;
const VALID = 8;
const SEQUENCE = 12;
const VALUES = 16;

/** The bytes of a key in its text form: hash 00, so it is used as it is. A CRC of 4 ends it. */
const keyOf = (text: string): Buffer =>
  Buffer.from(text.split(":")[2] as string, "base64").subarray(0, -4);

/** HMAC(K, C || S || T_ID || SC_C || role || NQN1 || 0 || NQN2), with SC_C 0, by SHA-256. */
function responseTo(
  key: string,
  challenge: Uint8Array,
  sequence: number,
  transaction: number,
  names: string,
): Buffer {
  const numbers = Buffer.alloc(7);
  numbers.writeUInt32LE(sequence);
  numbers.writeUInt16LE(transaction, 4);
  const made = createHmac("sha256", keyOf(key)).update(challenge).update(numbers);
  return made.update(names).digest();
}

function hostResponse(challenge: Uint8Array, subsystemNqn: string): Buffer {
  const view = viewOf(challenge);
  const value = challenge.subarray(VALUES, VALUES + (challenge[HL] as number));
  const names = `HostHost${SECURE_HOST.nqn}\0${subsystemNqn}`;
  const [sequence, transaction] = [view.getUint32(SEQUENCE, true), view.getUint16(T_ID, true)];
  return responseTo(SECURE_HOST.key, value, sequence, transaction, names);
}

/** Puts the response that a challenge needs into a Reply, in place. */
export function replyTo(reply: Uint8Array, challenge: Uint8Array, subsystemNqn: string): void {
  if (kindOf(reply) === Auth.reply) reply.set(hostResponse(challenge, subsystemNqn), VALUES);
}

export const isChallenge = (message: Uint8Array): boolean => kindOf(message) === Auth.challenge;

/** The data of a PDU; empty where it has none, or its digest does not match. */
export function dataOf(pdu: Uint8Array): Uint8Array {
  const pdo = pdu[TcpChOffset.PDO] as number;
  if (pdo === 0 || pdo >= pdu.length) return pdu.subarray(0, 0);
  if (((pdu[TcpChOffset.FLAGS] as number) & TcpFlag.ddgst) === 0) return pdu.subarray(pdo);
  const end = pdu.length - 4;
  const isRight = viewOf(pdu).getUint32(end, true) === crc32c(pdu, pdo, end - pdo);
  return isRight ? pdu.subarray(pdo, end) : pdu.subarray(0, 0);
}

interface Command {
  readonly sqe: Uint8Array;
  readonly opcode: number;
  readonly fuse: number;
  /** From the host, and from the target. */
  sent: Buffer;
  received: Buffer;
  /** The other half, when it stands beside this one. */
  partner: Command | null;
  status: number;
}

const isFabrics = ({ opcode }: Command): boolean => opcode === FABRICS_OPCODE;
const fctype = ({ sqe }: Command): number => sqe[4] as number;
const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.subarray(0, Math.max(0, bytes.indexOf(0)))).toString();

/** Compare, then write, of one block that is the same. */
function isPair(first: Command, second: Command): boolean {
  const range = ({ sqe }: Command): string =>
    Buffer.concat([sqe.subarray(4, 8), sqe.subarray(40, 50)]).toString("hex");
  const isOne = viewOf(first.sqe).getUint16(48, true) === 0;
  const opcodes = first.opcode === NvmOpcode.compare && second.opcode === NvmOpcode.write;
  return opcodes && isOne && range(first) === range(second);
}

/** Follows one connection. */
class Connection {
  readonly complaints: string[] = [];
  private readonly open = new Map<number, Command>();
  private previous: Command | null = null;
  private qid = -1;
  private subsystemNqn = "";
  private mustProve = false;
  private hasProved = false;
  private challenge: Uint8Array | null = null;
  private reply: Uint8Array | null = null;

  /** False: from here on nothing can be said. */
  hear({ isHost, pdu }: Said): boolean {
    const view = viewOf(pdu);
    const type = pdu[0] as number;
    if (isHost) {
      const isWhole = pdu.length >= 8 && view.getUint32(TcpChOffset.PLEN, true) === pdu.length;
      if (!isWhole || pdu.length < (TCP_HLEN[type] ?? 8)) return false;
    }
    if (type === TcpPdu.CAPSULE_CMD) return this.command(pdu);
    const isData = type === TcpPdu.H2C_DATA || type === TcpPdu.C2H_DATA;
    if (isData) {
      const cid = view.getUint16(TcpDataOffset.CCCID, true);
      const command = this.open.get(cid);
      if (command === undefined) return !isHost;
      if (isHost) command.sent = Buffer.concat([command.sent, dataOf(pdu)]);
      else command.received = Buffer.concat([command.received, dataOf(pdu)]);
      const isAll = !isHost && ((pdu[TcpChOffset.FLAGS] as number) & TcpFlag.success) !== 0;
      if (isAll) this.answered(cid, 0);
    }
    if (type === TcpPdu.CAPSULE_RESP) {
      const cid = view.getUint16(TCP_CAPSULE_AT + 12, true);
      this.answered(cid, view.getUint16(TCP_CAPSULE_AT + 14, true) >> 1);
    }
    return true;
  }

  private command(pdu: Uint8Array): boolean {
    const sqe = pdu.slice(TCP_CAPSULE_AT, TCP_CAPSULE_AT + 64);
    const cid = viewOf(sqe).getUint16(2, true);
    if (this.open.has(cid)) return false;
    const command: Command = {
      sqe,
      opcode: sqe[0] as number,
      fuse: (sqe[1] as number) & 3,
      sent: Buffer.from(dataOf(pdu)),
      received: Buffer.alloc(0),
      partner: null,
      status: -1,
    };
    this.open.set(cid, command);
    const first = this.previous;
    this.previous = command;
    if (first?.fuse === Fuse.first && command.fuse === Fuse.second) {
      first.partner = command;
      command.partner = first;
    }
    return true;
  }

  private answered(cid: number, status: number): void {
    const command = this.open.get(cid);
    if (command === undefined) return;
    this.open.delete(cid);
    command.status = status;
    if (status !== 0) return;
    if (!isFabrics(command)) {
      this.executed(command);
      return;
    }
    if (fctype(command) === FabricsType.CONNECT) this.connected(command);
    else if (fctype(command) === FabricsType.AUTHENTICATION_SEND) this.told(command.sent);
    else if (fctype(command) === FabricsType.AUTHENTICATION_RECEIVE) this.heard(command.received);
    else this.mayDo("a Fabrics command");
  }

  private mayDo(what: string): void {
    if (this.mustProve && !this.hasProved) {
      this.complaints.push(`${what} of a host that has not authenticated went well`);
    }
  }

  private executed(command: Command): void {
    this.mayDo(`command ${command.opcode}`);
    if (this.qid <= 0 || command.fuse === Fuse.none) return;
    const { partner, fuse } = command;
    const [first, second] = fuse === Fuse.first ? [command, partner] : [partner, command];
    if (fuse > Fuse.second || first === null || second === null || !isPair(first, second)) {
      this.complaints.push(`half of a fused pair was executed alone: ${command.opcode}`);
    } else if (fuse === Fuse.second && first.status !== 0) {
      this.complaints.push(`a fused write was executed, its compare has status ${first.status}`);
    }
  }

  private connected({ sqe, sent }: Command): void {
    this.qid = viewOf(sqe).getUint16(42, true);
    this.subsystemNqn = text(sent.subarray(ConnectDataOffset.SUBNQN, ConnectDataOffset.HOSTNQN));
    const hostNqn = text(sent.subarray(ConnectDataOffset.HOSTNQN));
    this.mustProve = hostNqn === SECURE_HOST.nqn && this.subsystemNqn !== DISCOVERY_NQN;
  }

  private told(message: Uint8Array): void {
    if (kindOf(message) === Auth.reply) this.reply = message;
    const isAsked = this.reply?.[VALID] === 1;
    if (kindOf(message) === Auth.success2 && isAsked && this.challenge === null) {
      this.hasProved = true;
    }
  }

  private heard(message: Uint8Array): void {
    if (kindOf(message) === Auth.challenge) {
      this.challenge = message;
      this.reply = null;
    }
    if (kindOf(message) !== Auth.success1) return;
    const { challenge, reply, subsystemNqn } = this;
    this.challenge = null;
    if (challenge === null || reply === null) {
      this.complaints.push("an exchange succeeded without a challenge and its reply");
      return;
    }
    const hl = reply[HL] as number;
    const wanted = hostResponse(challenge, subsystemNqn);
    const isRight =
      wanted.equals(reply.subarray(VALUES, VALUES + hl)) &&
      viewOf(reply).getUint16(T_ID, true) === viewOf(challenge).getUint16(T_ID, true);
    if (!isRight) this.complaints.push("a wrong response to a challenge was taken");
    if (reply[VALID] !== 1) {
      this.hasProved = true;
      return;
    }
    const [sequence, transaction] = [SEQUENCE, T_ID].map((at) =>
      at === T_ID ? viewOf(reply).getUint16(at, true) : viewOf(reply).getUint32(at, true),
    ) as [number, number];
    const theirs = reply.subarray(VALUES + hl, VALUES + 2 * hl);
    const names = `Controller${subsystemNqn}\0${SECURE_HOST.nqn}`;
    const proof = responseTo(SECURE_HOST.ctrlKey, theirs, sequence, transaction, names);
    const given = message.subarray(VALUES, VALUES + hl);
    if (message[VALID] !== 1 || !proof.equals(given)) {
      this.complaints.push("the controller does not prove that it has its key");
    }
  }
}

/** What is wrong with how a target answered on one connection. */
export function judgeSession(said: readonly Said[]): string[] {
  const connection = new Connection();
  for (const one of said) if (!connection.hear(one)) break;
  return connection.complaints;
}
