/**
 * tshark as a judge of captures: it dissects TCP and NVMe/TCP, verifies checksums and digests, and
 * was written by others. Debian and Ubuntu: `apt-get install tshark`.
 *
 * A test that needs it and does not find it skips with {@link TSHARK_MISSING}; with
 * `PEERLANE_TSHARK=required`, as in CI, it fails.
 */

import { execFileSync } from "node:child_process";
import { TCP_PDU_TYPES } from "../src/spec/nvmf/index.ts";

export const TSHARK_MISSING = "there is no tshark: apt-get install tshark";
const OUTPUT_BYTES_MAX = 1 << 28;
const LIMIT_MS = 120_000;
/** Both enumerations of Wireshark: of digests and of checksums. */
const STATUS_GOOD = "1";
/** Expert severities (epan/proto.h): chat and note are no complaints. */
const SEVERITY_WARN = 0x0060_0000;

const FIELDS = [
  "frame.number",
  "tcp.stream",
  "frame.p2p_dir",
  "nvme-tcp.type",
  "nvme-tcp.hdgst.status",
  "nvme-tcp.ddgst.status",
  "ip.checksum.status",
  "tcp.checksum.status",
  "_ws.expert.severity",
  "_ws.expert.message",
  "_ws.malformed",
  "nvme-tcp.c2htermreq.fes",
] as const;
type Field = (typeof FIELDS)[number];

/** What tshark says of a capture. */
export interface Dissection {
  readonly frames: number;
  readonly connections: number;
  /** PDUs by type, towards the program that recorded and from it. */
  readonly received: readonly number[];
  readonly sent: readonly number[];
  readonly goodHeaderDigests: number;
  readonly goodDataDigests: number;
  /** FES of each C2HTermReq. */
  readonly terminations: readonly number[];
  /** What is malformed, wrong, or worth a warning: a line each. */
  readonly complaints: readonly string[];
}

/** Null when it is not installed. Throws then when `PEERLANE_TSHARK` is `required`. */
export function findTshark(): string | null {
  try {
    return execFileSync("tshark", ["--version"], { encoding: "utf8", stdio: "pipe" });
  } catch {
    if (process.env["PEERLANE_TSHARK"] === "required") throw new Error(TSHARK_MISSING);
    return null;
  }
}

/** Dissects everything to and from these ports as NVMe/TCP. */
export function dissect(file: string, ports: readonly number[]): Dissection {
  const preferences = [
    "nvme-tcp.check_hdgst:TRUE",
    "nvme-tcp.check_ddgst:TRUE",
    "tcp.check_checksum:TRUE",
    "ip.check_checksum:TRUE",
  ];
  const args = [
    "-r",
    file,
    "-n",
    ...ports.flatMap((port) => ["-d", `tcp.port==${port},nvme-tcp`]),
    ...preferences.flatMap((preference) => ["-o", preference]),
    ...["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"],
    ...FIELDS.flatMap((field) => ["-e", field]),
  ];
  const text = execFileSync("tshark", args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: OUTPUT_BYTES_MAX,
    timeout: LIMIT_MS,
  });
  return summary(text.trimEnd().split("\n").map(frame));
}

type Frame = Readonly<Record<Field, readonly string[]>>;

function frame(line: string): Frame {
  const columns = line.split("\t");
  return Object.fromEntries(
    FIELDS.map((field, i) => [field, columns[i] ? columns[i].split("|") : []]),
  ) as unknown as Frame;
}

function summary(frames: readonly Frame[]): Dissection {
  const received = new Array<number>(TCP_PDU_TYPES).fill(0);
  const sent = received.slice();
  const streams = new Set<string>();
  const complaints: string[] = [];
  const terminations: number[] = [];
  const good = { header: 0, data: 0 };
  for (const one of frames) {
    for (const stream of one["tcp.stream"]) streams.add(stream);
    const counts = one["frame.p2p_dir"][0] === "0" ? sent : received;
    for (const type of one["nvme-tcp.type"]) counts[Number(type)] = (counts[Number(type)] ?? 0) + 1;
    for (const fes of one["nvme-tcp.c2htermreq.fes"]) terminations.push(Number(fes));
    good.header += one["nvme-tcp.hdgst.status"].filter((of) => of === STATUS_GOOD).length;
    good.data += one["nvme-tcp.ddgst.status"].filter((of) => of === STATUS_GOOD).length;
    complaints.push(...complaintsOf(one).map((what) => `frame ${one["frame.number"]}: ${what}`));
  }
  return {
    frames: frames.length,
    connections: streams.size,
    received,
    sent,
    goodHeaderDigests: good.header,
    goodDataDigests: good.data,
    terminations,
    complaints,
  };
}

function complaintsOf(one: Frame): string[] {
  const found: string[] = [];
  if (one["_ws.malformed"].length > 0) found.push("malformed");
  for (const field of [
    "nvme-tcp.hdgst.status",
    "nvme-tcp.ddgst.status",
    "ip.checksum.status",
    "tcp.checksum.status",
  ] as const) {
    if (one[field].some((status) => status !== STATUS_GOOD)) found.push(`${field} ${one[field]}`);
  }
  for (const [i, severity] of one["_ws.expert.severity"].entries()) {
    const message = one["_ws.expert.message"][i] ?? "?";
    // A reset is what happened, and not wrong.
    const isReset = message.startsWith("Connection reset");
    if (Number(severity) >= SEVERITY_WARN && !isReset) found.push(message);
  }
  return found;
}
