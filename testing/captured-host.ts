/**
 * What hosts said to a target in the captures of testing/captures, PDU by PDU, to say it again.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { viewOf } from "../src/core/index.ts";
import { TCP_CH_BYTES, TcpChOffset } from "../src/spec/nvmf/index.ts";
import { connectionsOf, readCapture, sentBy } from "./capture-reader.ts";

const FOLDER = join(import.meta.dirname, "captures");

/** One PDU that a host sent. */
export interface CapturedStep {
  /** Which of the session's connections. */
  readonly connection: number;
  readonly pdu: Uint8Array;
}

export interface CapturedSession {
  readonly name: string;
  readonly connections: number;
  /** In the order in which they were complete at the target. */
  readonly steps: readonly CapturedStep[];
  /** What the target answered, by connection. */
  readonly answers: readonly Uint8Array[];
}

/** Length of the whole PDU at `at`; 0: it is not all there. Throws when it cannot be one. */
export function wholePduAt(stream: Uint8Array, at: number): number {
  if (at + TCP_CH_BYTES > stream.length) return 0;
  const length = viewOf(stream).getUint32(at + TcpChOffset.PLEN, true);
  if (length < TCP_CH_BYTES) throw new Error(`a PDU of ${length} bytes`);
  return at + length > stream.length ? 0 : length;
}

/** The whole PDUs of a stream; what is left over is an error. */
export function splitPdus(stream: Uint8Array): Uint8Array[] {
  const pdus: Uint8Array[] = [];
  for (let at = 0; at < stream.length; ) {
    const length = wholePduAt(stream, at);
    if (length === 0) throw new Error("a PDU is cut");
    pdus.push(stream.subarray(at, at + length));
    at += length;
  }
  return pdus;
}

function session(name: string): CapturedSession {
  const file = readCapture(gunzipSync(readFileSync(join(FOLDER, name))));
  const connections = connectionsOf(file);
  const names = new Map(connections.map(({ far }, i) => [far, i]));
  if (names.size !== connections.length) throw new Error(`${name}: a host used a port twice`);
  const pending = connections.map(() => new Uint8Array(0));
  const steps: CapturedStep[] = [];
  for (const { isInbound, from, payload } of file.packets) {
    if (!isInbound || payload.length === 0) continue;
    const connection = names.get(from) as number;
    let bytes: Uint8Array = Buffer.concat([pending[connection] as Uint8Array, payload]);
    for (;;) {
      const length = wholePduAt(bytes, 0);
      if (length === 0) break;
      steps.push({ connection, pdu: bytes.slice(0, length) });
      bytes = bytes.subarray(length);
    }
    pending[connection] = Uint8Array.from(bytes);
  }
  if (pending.some((left) => left.length > 0)) throw new Error(`${name}: a PDU is cut`);
  return {
    name: name.replace(".pcapng.gz", ""),
    connections: connections.length,
    steps,
    answers: connections.map((one) => sentBy(one, false)),
  };
}

export function capturedSessions(): CapturedSession[] {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".pcapng.gz"));
  return files.sort().map(session);
}
