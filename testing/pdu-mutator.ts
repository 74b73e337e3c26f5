/**
 * Damages what a host says, PDU by PDU: bits, fields, lengths, order, pieces of other PDUs. Seeded,
 * so that a failure replays. A damaged header gets a right digest every other time: a wrong one
 * would hide what is behind it.
 */

import { crc32c, type Prng, viewOf } from "../src/core/index.ts";
import { SqeOffset } from "../src/spec/nvme/index.ts";
import {
  FABRICS_OPCODE,
  FabricsType,
  TCP_CAPSULE_AT,
  TCP_CH_BYTES,
  TCP_HLEN,
  TcpChOffset,
  TcpDataOffset,
  TcpFlag,
  TcpIcOffset,
  TcpPdu,
} from "../src/spec/nvmf/index.ts";

import type { CapturedStep } from "./captured-host.ts";

const NASTY = [0, 1, 2, 3, 4, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff];
const NASTY_32 = [...NASTY, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 4095, 4096, 8192, 8193, 131_072];

/** Offset and bytes of fields: of all headers, of H2CData, of ICReq, of commands. */
type Field = readonly [number, 1 | 2 | 4];
const COMMON_FIELDS: readonly Field[] = [
  [TcpChOffset.TYPE, 1],
  [TcpChOffset.FLAGS, 1],
  [TcpChOffset.HLEN, 1],
  [TcpChOffset.PDO, 1],
  [TcpChOffset.PLEN, 4],
];
const DATA_FIELDS: readonly Field[] = [
  [TcpDataOffset.CCCID, 2],
  [TcpDataOffset.TTAG, 2],
  [TcpDataOffset.DATAO, 4],
  [TcpDataOffset.DATAL, 4],
];
const INIT_FIELDS: readonly Field[] = [
  [TcpIcOffset.PFV, 2],
  [TcpIcOffset.PDA, 1],
  [TcpIcOffset.DGST, 1],
  [TcpIcOffset.MAX, 4],
];
const SGL = TCP_CAPSULE_AT + SqeOffset.sgl1;
const COMMAND_FIELDS: readonly Field[] = [
  [TCP_CAPSULE_AT + 1, 1],
  [TCP_CAPSULE_AT + SqeOffset.cid, 2],
  [TCP_CAPSULE_AT + SqeOffset.nsid, 4],
  [SGL, 4],
  [SGL + 4, 4],
  [SGL + 8, 4],
  [SGL + 15, 1],
  ...[10, 11, 12, 13, 14, 15].map((cdw): Field => [TCP_CAPSULE_AT + 4 * cdw, 4]),
];
const FIELDS: ReadonlyMap<number, readonly Field[]> = new Map([
  [TcpPdu.ICREQ, INIT_FIELDS],
  [TcpPdu.CAPSULE_CMD, COMMAND_FIELDS],
  [TcpPdu.H2C_DATA, DATA_FIELDS],
]);

/** Right header and data digests, where the PDU says that it has them. */
export function sealPdu(pdu: Uint8Array): void {
  const type = pdu[0] as number;
  if (type < TcpPdu.CAPSULE_CMD || pdu.length < TCP_CH_BYTES) return;
  const view = viewOf(pdu);
  const hlen = TCP_HLEN[type] ?? 0;
  const flags = pdu[TcpChOffset.FLAGS] as number;
  if (hlen > 0 && (flags & TcpFlag.hdgst) !== 0 && pdu.length >= hlen + 4) {
    view.setUint32(hlen, crc32c(pdu, 0, hlen), true);
  }
  const pdo = pdu[TcpChOffset.PDO] as number;
  if ((flags & TcpFlag.ddgst) !== 0 && pdo > 0 && pdu.length > pdo + 4) {
    const length = pdu.length - 4 - pdo;
    view.setUint32(pdo + length, crc32c(pdu.slice(pdo, pdo + length)), true);
  }
}

function flipBits(pdu: Uint8Array, prng: Prng): void {
  // Headers matter more than data.
  const span = prng.below(3) === 0 ? pdu.length : Math.min(pdu.length, 76);
  for (let n = 1 + prng.below(4); n > 0; n--) {
    const at = prng.below(span);
    pdu[at] = (pdu[at] as number) ^ (1 << prng.below(8));
  }
}

function setBytes(pdu: Uint8Array, prng: Prng): void {
  const span = Math.min(pdu.length, 132);
  for (let n = 1 + prng.below(3); n > 0; n--) {
    pdu[prng.below(span)] = (prng.pick(NASTY) ^ prng.below(4)) & 0xff;
  }
}

/** One field: near what it was, or a value that has broken parsers before. */
function setField(pdu: Uint8Array, prng: Prng): void {
  const own = FIELDS.get(pdu[0] as number) ?? COMMON_FIELDS;
  const [at, bytes] = prng.pick(prng.below(3) === 0 ? COMMON_FIELDS : own);
  if (at + bytes > pdu.length) return;
  const view = viewOf(pdu);
  const was = [pdu[at] as number, view.getUint16(at, true), view.getUint32(at, true)];
  const old = was[bytes >> 1] as number;
  const near = old + prng.below(9) - 4;
  const flipped = old ^ (1 << prng.below(8 * bytes));
  const value = prng.pick([near, flipped, prng.pick(NASTY_32)]) >>> 0;
  if (bytes === 1) pdu[at] = value;
  else if (bytes === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
}

/** Another command in a right capsule. */
function setCommand(pdu: Uint8Array, prng: Prng): void {
  if (pdu[0] !== TcpPdu.CAPSULE_CMD) return;
  const which = prng.below(4);
  if (which === 0) pdu[TCP_CAPSULE_AT] = prng.below(256);
  else if (which === 1) pdu[TCP_CAPSULE_AT + 1] = prng.below(256);
  else if (which === 2) pdu[TCP_CAPSULE_AT + 4 + prng.below(4)] = prng.below(256);
  else pdu[SGL + 15] = prng.pick([0x00, 0x01, 0x0a, 0x40, 0x5a, 0x31, 0x21, prng.below(256)]);
}

/** The same PDU with the other LAST_PDU flag. */
function flipLast(pdu: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(pdu);
  copy[TcpChOffset.FLAGS] = (copy[TcpChOffset.FLAGS] as number) ^ TcpFlag.last;
  sealPdu(copy);
  return copy;
}

/** H2CData as two: hosts may, and the captured ones never do. */
function splitData(pdu: Uint8Array, prng: Prng): Uint8Array[] {
  const view = viewOf(pdu);
  const length = view.getUint32(TcpDataOffset.DATAL, true);
  const pdo = pdu[TcpChOffset.PDO] as number;
  const flags = pdu[TcpChOffset.FLAGS] as number;
  const tail = (flags & TcpFlag.ddgst) !== 0 ? 4 : 0;
  const words = Math.floor(length / 4);
  if (words < 2 || pdo + length + tail !== pdu.length) return [pdu];
  const first = 4 * (1 + prng.below(words - 1));
  const piece = (from: number, bytes: number, ownFlags: number): Uint8Array => {
    const made = new Uint8Array(pdo + bytes + tail);
    made.set(pdu.subarray(0, pdo));
    made.set(pdu.subarray(pdo + from, pdo + from + bytes), pdo);
    made[TcpChOffset.FLAGS] = ownFlags;
    const header = viewOf(made);
    header.setUint32(TcpChOffset.PLEN, made.length, true);
    header.setUint32(TcpDataOffset.DATAO, view.getUint32(TcpDataOffset.DATAO, true) + from, true);
    header.setUint32(TcpDataOffset.DATAL, bytes, true);
    sealPdu(made);
    return made;
  };
  return [piece(0, first, flags & ~TcpFlag.last), piece(first, length - first, flags)];
}

/** Data as no host here sends it: in pieces, right ones or with one wrong flag, or a wrong field. */
function disturbData(pdu: Uint8Array, prng: Prng): Uint8Array[] {
  const pieces = prng.below(2) === 0 ? splitData(pdu, prng) : [pdu];
  const wrong = prng.below(2 * pieces.length);
  if (wrong < pieces.length) {
    return pieces.map((piece, i) => (i === wrong ? flipLast(piece) : piece));
  }
  if (pieces.length > 1) return pieces;
  const copy = Uint8Array.from(pdu);
  setField(copy, prng);
  sealPdu(copy);
  return [copy];
}

const IN_PLACE = [flipBits, setBytes, setField, setField, setCommand, setCommand];

function cut(pdu: Uint8Array, prng: Prng): Uint8Array[] {
  return [pdu.slice(0, prng.below(pdu.length))];
}

function stretch(pdu: Uint8Array, prng: Prng): Uint8Array[] {
  const more = new Uint8Array(1 + prng.below(300));
  prng.fill(more);
  return [Buffer.concat([pdu, more])];
}

/** Indices of the PDUs of each connection that are part of its authentication, in order. */
export function exchangesIn(steps: readonly CapturedStep[]): number[][] {
  const exchanges = new Map<number, number[]>();
  const isAuth = new Map<string, boolean>();
  for (const [index, { connection, pdu }] of steps.entries()) {
    const view = viewOf(pdu);
    const isCommand = pdu[0] === TcpPdu.CAPSULE_CMD;
    if (!isCommand && pdu[0] !== TcpPdu.H2C_DATA) continue;
    const at = isCommand ? TCP_CAPSULE_AT + SqeOffset.cid : TcpDataOffset.CCCID;
    const key = `${connection} ${view.getUint16(at, true)}`;
    const fctype = pdu[TCP_CAPSULE_AT + 4] as number;
    if (isCommand) isAuth.set(key, pdu[TCP_CAPSULE_AT] === FABRICS_OPCODE && isExchange(fctype));
    if (isAuth.get(key) !== true) continue;
    exchanges.set(connection, [...(exchanges.get(connection) ?? []), index]);
  }
  return [...exchanges.values()];
}

const isExchange = (fctype: number): boolean =>
  fctype === FabricsType.AUTHENTICATION_SEND || fctype === FabricsType.AUTHENTICATION_RECEIVE;

type Mutation = (pdu: Uint8Array, index: number) => Uint8Array[];

/** A host that authenticates on one queue up to the `from`th PDU of its exchange. */
export function stopExchange(exchange: readonly number[], from: number): Mutation {
  const left = new Set(exchange.slice(from));
  return (pdu, index) => (left.has(index) ? [] : [pdu]);
}

/** Bytes of an authentication message that mean something: its fields, and a response. */
export const MESSAGE_BYTES = 48;

/** A host that authenticates with one bit wrong: byte `at` of the message that PDU `which` has. */
export function garbleExchange(which: number, at: number, bit: number): Mutation {
  return (pdu, index) => {
    if (index !== which) return [pdu];
    const copy = Uint8Array.from(pdu);
    const where = (copy[TcpChOffset.PDO] as number) + at;
    if (where < copy.length) copy[where] = (copy[where] as number) ^ (1 << bit);
    sealPdu(copy);
    return [copy];
  };
}

/** Those of the PDUs that carry a message. */
export const messagesOf = (exchange: readonly number[], steps: readonly CapturedStep[]): number[] =>
  exchange.filter((index) => (steps[index]?.pdu[TcpChOffset.PDO] ?? 0) > 0);

/**
 * What to do to one session of so many PDUs: noise all over it, or one field of one PDU, whose type
 * is chosen first, since data is rarer than commands.
 */
export function damager(
  steps: readonly CapturedStep[],
  others: readonly Uint8Array[],
  prng: Prng,
): Mutation {
  const exchanges = exchangesIn(steps);
  if (exchanges.length > 0 && prng.below(2) === 0) {
    const exchange = prng.pick(exchanges);
    if (prng.below(2) === 0) return stopExchange(exchange, prng.below(exchange.length));
    const which = prng.pick(messagesOf(exchange, steps));
    return garbleExchange(which, prng.below(MESSAGE_BYTES), prng.below(8));
  }
  const pdus = steps.map(({ pdu }) => pdu);
  const odds = prng.pick([1, 1, 1, 3, 10, 30, 100]);
  if (odds > 1) {
    return (pdu) => (prng.below(odds) === 0 ? mutatePdu(pdu, others, prng) : [pdu]);
  }
  const types = [...new Set(pdus.map((pdu) => pdu[0]))];
  const type = prng.pick(types);
  const candidates = [...pdus.keys()].filter((index) => pdus[index]?.[0] === type);
  const victim = prng.pick(candidates);
  return (pdu, index) => {
    if (index !== victim) return [pdu];
    if (type === TcpPdu.H2C_DATA) return disturbData(pdu, prng);
    const copy = Uint8Array.from(pdu);
    setField(copy, prng);
    sealPdu(copy);
    return [copy];
  };
}

/**
 * What is sent instead of a PDU. `others` may be spliced in. Keep what you pass in: it is not
 * written to.
 */
function mutatePdu(pdu: Uint8Array, others: readonly Uint8Array[], prng: Prng): Uint8Array[] {
  const copy = Uint8Array.from(pdu);
  const other = Uint8Array.from(prng.pick(others));
  switch (prng.below(12)) {
    case 0:
      return cut(copy, prng);
    case 1:
      return stretch(copy, prng);
    case 2:
      return [copy, copy];
    case 3:
      return [];
    case 4:
      return prng.below(2) === 0 ? [other, copy] : [copy, other];
    case 5: {
      // The head of one, the tail of another.
      const at = prng.below(Math.min(copy.length, other.length) + 1);
      return [Buffer.concat([copy.subarray(0, at), other.subarray(at)])];
    }
    default: {
      const seals = prng.below(2) === 0;
      for (let n = 1 + prng.below(2); n > 0; n--) prng.pick(IN_PLACE)(copy, prng);
      if (seals) sealPdu(copy);
      return [copy];
    }
  }
}
