/**
 * How fast a PCIe link moves payload, and how many bytes one transfer puts on the wire. The model
 * of R. Neugebauer et al., "Understanding PCIe performance for end host networking", SIGCOMM 2018:
 * raw signalling rate, less the data link layer's own packets, less headers per TLP.
 *
 * The Ack and flow control intervals come from the formula behind the tables of PCIe Base 5.0
 * (3.6.2.1 AckNak_LATENCY_TIMER, 2.6.1.2 UpdateFC guideline):
 *   (Max_Payload_Size + 28) * factor / width + internal delay, in symbol times.
 * Generation 6 runs in Flit Mode: no Ack or FC packets and no framing per TLP; of a 256-byte flit
 * 236 bytes are TLPs (PCIe Base 6.0, 4.2.3). Header sizes are those of Non-Flit Mode without
 * framing.
 *
 * Invariants: payload rate <= TLP rate <= raw rate; all functions are pure. Transfers start at a
 * multiple of MPS, MRRS and RCB. Leaves out: bit errors and replay, credits that run out, TLP
 * prefixes, IDE, Local and OHC headers.
 */

import { assert } from "../../core/index.ts";

/** Generations 1 to 6: 2.5, 5, 8, 16, 32 and 64 GT/s. */
export type LinkGeneration = 1 | 2 | 3 | 4 | 5 | 6;

/** What the model has to know about a link and its two ends. */
export interface LinkModel {
  readonly generation: number;
  /** Lanes: 1, 2, 4, 8, 12, 16 or 32. */
  readonly width: number;
  /** Max_Payload_Size in bytes, 128 to 4096. */
  readonly maxPayload: number;
  /** Max_Read_Request_Size in bytes, 128 to 4096. */
  readonly maxReadRequest: number;
  /** Read Completion Boundary in bytes. Matters only when `completionSplit` is `rcb`. */
  readonly readCompletionBoundary: number;
  /** 64-bit addresses make request headers 4 bytes longer. */
  readonly addressBits: 32 | 64;
  /** A TLP Digest of 4 bytes on every TLP. */
  readonly ecrc: boolean;
  /** Completers cut read data at MPS, or, older root complexes, at every RCB. */
  readonly completionSplit: "mps" | "rcb";
  /**
   * How Ack and FC packets are charged. `published`: as the paper's model does, 8 bytes per
   * interval counted as if the link had one lane, which is pessimistic on wide links. `striped`: 8
   * bytes per interval times lanes, which is what the symbols add up to.
   */
  readonly dllp: "published" | "striped";
}

/** The paper's own settings, for a link of that speed and width. */
export function linkModel(
  generation: number,
  width: number,
  options: Partial<Omit<LinkModel, "generation" | "width">> = {},
): LinkModel {
  return {
    generation,
    width,
    maxPayload: 256,
    maxReadRequest: 512,
    readCompletionBoundary: 64,
    addressBits: 64,
    ecrc: false,
    completionSplit: "mps",
    dllp: "published",
    ...options,
  };
}

/** Ack and UpdateFC packets: 4 bytes, 2 of CRC, 2 of framing. */
const DLLP_BYTES = 8;
/** SKP ordered sets for clock compensation: 4 symbols every 1538 at the latest (4.2.7.3). */
const SKIP_SHARE = 4 / 1538;
/** Framing (2), sequence number (2), LCRC (4). None of them in Flit Mode. */
const TLP_FRAMING_BYTES = 8;
/** Header, sequence number, LCRC and framing as the Ack formula counts them (table 3-7). */
const ACK_TLP_OVERHEAD = 28;
const TLP_DIGEST_BYTES = 4;
const COMPLETION_HEADER_BYTES = 12;
const FLIT_BYTES = 256;
const FLIT_TLP_BYTES = 236;
/** CRC (8) and ECC (6) of a flit; the rest is TLPs and 6 bytes of DLP. */
const FLIT_CODE_BYTES = 14;

const TRANSFERS_PER_SECOND: readonly number[] = [0, 2.5e9, 5e9, 8e9, 16e9, 32e9, 64e9];
/** Symbol times of internal delay, by generation. */
const INTERNAL_DELAY: readonly number[] = [0, 19, 70, 115, 115, 115];

function encodingShare(generation: number): number {
  if (generation <= 2) return 8 / 10;
  if (generation <= 5) return 128 / 130;
  return (FLIT_BYTES - FLIT_CODE_BYTES) / FLIT_BYTES;
}

export const LINK_WIDTHS: readonly number[] = [1, 2, 4, 8, 12, 16, 32];
/** Values that Max_Payload_Size and Max_Read_Request_Size can encode. */
export const PAYLOAD_SIZES: readonly number[] = [128, 256, 512, 1024, 2048, 4096];

/**
 * Bytes per second of one direction after line encoding, before any packet.
 * @param generation 1 to 6
 * @param width lanes
 */
export function rawBytesPerSecond(generation: number, width: number): number {
  assert(generation >= 1 && generation <= 6, "PCIe generations are 1 to 6");
  return ((TRANSFERS_PER_SECOND[generation] as number) * encodingShare(generation) * width) / 8;
}

/** AckFactor and UpdateFactor are the same table (PCIe Base 5.0, tables 2-46 and 3-7). */
function ackFactor(width: number, maxPayload: number): number {
  if (width <= 4) return maxPayload <= 256 ? 1.4 : 1;
  if (width <= 8) return maxPayload <= 256 ? 2.5 : 1;
  return maxPayload <= 256 ? 3 : 2;
}

/**
 * The longest a receiver may wait with an Ack, and the interval recommended for UpdateFC, in symbol
 * times. PCIe Base 5.0 tables 3-7 to 3-9 and 2-46 to 2-48; generations 1 to 5.
 */
export function ackLimitSymbols(generation: number, width: number, maxPayload: number): number {
  assert(generation >= 1 && generation <= 5, "generation 6 has no Ack packets");
  const perLane = ((maxPayload + ACK_TLP_OVERHEAD) * ackFactor(width, maxPayload)) / width;
  return Math.floor(perLane + (INTERNAL_DELAY[generation] as number));
}

/** Bytes per second that TLPs, with their headers, can have in one direction. */
export function tlpBytesPerSecond(link: LinkModel): number {
  const raw = rawBytesPerSecond(link.generation, link.width);
  if (link.generation >= 6) return (raw * FLIT_TLP_BYTES) / (FLIT_BYTES - FLIT_CODE_BYTES);
  const lanes = link.dllp === "striped" ? link.width : 1;
  const interval = ackLimitSymbols(link.generation, link.width, link.maxPayload) * lanes;
  // One Ack and one UpdateFC per interval.
  return raw * (1 - (2 * DLLP_BYTES) / interval - SKIP_SHARE);
}

function framingBytes(link: LinkModel): number {
  const digest = link.ecrc ? TLP_DIGEST_BYTES : 0;
  return link.generation >= 6 ? digest : digest + TLP_FRAMING_BYTES;
}

/** Bytes around the payload of one memory read or write request. */
export function requestOverheadBytes(link: LinkModel): number {
  return framingBytes(link) + (link.addressBits === 64 ? 16 : 12);
}

/** Bytes around the payload of one completion with data. */
export function completionOverheadBytes(link: LinkModel): number {
  return framingBytes(link) + COMPLETION_HEADER_BYTES;
}

/** Wire bytes of a memory write of `payload` bytes, initiator to completer. Nothing comes back. */
export function writeWireBytes(link: LinkModel, payload: number): number {
  return payload + Math.ceil(payload / link.maxPayload) * requestOverheadBytes(link);
}

/** Wire bytes of the requests for a memory read of `payload` bytes, initiator to completer. */
export function readRequestWireBytes(link: LinkModel, payload: number): number {
  return Math.ceil(payload / link.maxReadRequest) * requestOverheadBytes(link);
}

/** Wire bytes of the completions of a memory read of `payload` bytes, completer to initiator. */
export function readCompletionWireBytes(link: LinkModel, payload: number): number {
  const split = link.completionSplit === "rcb" ? link.readCompletionBoundary : link.maxPayload;
  return payload + Math.ceil(payload / split) * completionOverheadBytes(link);
}

/** What one transfer puts on the wire, by direction, seen from the initiator. */
export interface WireBytes {
  readonly toCompleter: number;
  readonly toInitiator: number;
}

/** Both directions of one transfer. Allocates; per-TLP accounting calls the functions above. */
export function wireBytes(
  link: LinkModel,
  direction: "read" | "write",
  payload: number,
): WireBytes {
  if (direction === "write") {
    return { toCompleter: writeWireBytes(link, payload), toInitiator: 0 };
  }
  return {
    toCompleter: readRequestWireBytes(link, payload),
    toInitiator: readCompletionWireBytes(link, payload),
  };
}

/** Payload bytes per second of back-to-back writes of `transfer` bytes each. */
export function writePayloadBytesPerSecond(link: LinkModel, transfer: number): number {
  return (tlpBytesPerSecond(link) * transfer) / writeWireBytes(link, transfer);
}

/**
 * Payload bytes per second of back-to-back reads of `transfer` bytes each: limited by completions
 * one way or by requests the other way, whichever fills its direction first.
 */
export function readPayloadBytesPerSecond(link: LinkModel, transfer: number): number {
  const busiest = Math.max(
    readRequestWireBytes(link, transfer),
    readCompletionWireBytes(link, transfer),
  );
  return (tlpBytesPerSecond(link) * transfer) / busiest;
}
