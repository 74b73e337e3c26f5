/**
 * Fields of connection messages from what the manager knows, and back: the packing of several
 * values in one byte stays here. Layouts in spec/rdma/cm.ts.
 */

import { PeerlaneError } from "../../core/index.ts";
import {
  CM_TCP_SERVICE_ID,
  CmBits,
  type CmFields,
  DEFAULT_PKEY,
  encodeIpCmHeader,
  GID_BYTES,
  IP_CM_HEADER_BYTES,
  mtuBytes,
  mtuCode,
} from "../../spec/rdma/index.ts";

/** LID of a port that has none. */
const NO_LID = 0xffff;
const HOP_LIMIT = 64;
/** Code of the response timeouts that messages carry: 4.096 us * 2^18, about a second. */
export const CM_TIMEOUT_CODE = 18;
/** Local ACK timeout: 4.096 us * 2^14, 67 ms. */
export const ACK_TIMEOUT_CODE = 14;

/** How often a message is sent again; what MaxCMRetries can say. */
export const CM_RETRIES = 15;
/** Transport and RNR retries unless asked for otherwise. */
export const DEFAULT_RETRY_COUNT = 7;
export const NO_DATA = new Uint8Array(0);

/** Throws `cm-private-data` when a message has no room for `data`. */
export function checkPrivate(data: Uint8Array, max: number): void {
  if (data.length <= max) return;
  throw new PeerlaneError("cm-private-data", `${data.length} bytes of private data`, {
    remedy: `send at most ${max} bytes with this message`,
  });
}

/** What a REQ says. */
export interface RequestFacts {
  readonly localId: number;
  readonly port: number;
  readonly sourcePort: number;
  readonly localGid: Uint8Array;
  readonly remoteGid: Uint8Array;
  readonly qpn: number;
  readonly psn: number;
  readonly initiatorDepth: number;
  readonly responderResources: number;
  readonly retryCount: number;
  readonly rnrRetryCount: number;
  readonly retries: number;
  readonly pathMtu: number;
  readonly privateData: Uint8Array;
}

export function requestFields(facts: RequestFacts): CmFields {
  const data = new Uint8Array(IP_CM_HEADER_BYTES + facts.privateData.length);
  encodeIpCmHeader(facts.localGid, facts.remoteGid, facts.sourcePort, data);
  data.set(facts.privateData, IP_CM_HEADER_BYTES);
  const timeout = CmBits.responseTimeout.set(0, CM_TIMEOUT_CODE);
  return {
    localCommId: facts.localId,
    serviceId: CM_TCP_SERVICE_ID + facts.port,
    localCaGuid: facts.localGid.subarray(GID_BYTES - 8),
    localQpn: facts.qpn,
    responderResources: facts.responderResources,
    initiatorDepth: facts.initiatorDepth,
    remoteResponseTimeout: timeout,
    startingPsn: facts.psn,
    localResponseTimeout: CmBits.retryCount.set(timeout, facts.retryCount),
    pkey: DEFAULT_PKEY,
    pathMtu: CmBits.reqRnrRetry.set(
      CmBits.pathMtu.set(0, mtuCode(facts.pathMtu)),
      facts.rnrRetryCount,
    ),
    maxCmRetries: CmBits.maxCmRetries.set(0, facts.retries),
    primaryLocalLid: NO_LID,
    primaryRemoteLid: NO_LID,
    primaryLocalGid: facts.localGid,
    primaryRemoteGid: facts.remoteGid,
    primaryHopLimit: HOP_LIMIT,
    primaryAckTimeout: CmBits.ackTimeout.set(0, ACK_TIMEOUT_CODE),
    privateData: data,
  };
}

/** The parts of a REQ that the passive side uses. */
export interface ReceivedRequest {
  readonly commId: number;
  /** Null when the service id is not of a TCP port. */
  readonly port: number | null;
  readonly sourcePort: number;
  readonly qpn: number;
  readonly psn: number;
  readonly initiatorDepth: number;
  readonly responderResources: number;
  readonly retryCount: number;
  readonly rnrRetryCount: number;
  readonly pathMtu: number;
  readonly privateData: Uint8Array;
}

export function readRequest(fields: CmFields): ReceivedRequest {
  const number = (name: string): number => fields[name] as number;
  const data = fields["privateData"] as Uint8Array;
  const port = number("serviceId") - CM_TCP_SERVICE_ID;
  return {
    commId: number("localCommId"),
    port: port >= 0 && port < 0x10000 ? port : null,
    sourcePort: ((data[2] as number) << 8) | (data[3] as number),
    qpn: number("localQpn"),
    psn: number("startingPsn"),
    initiatorDepth: number("initiatorDepth"),
    responderResources: number("responderResources"),
    retryCount: CmBits.retryCount.get(number("localResponseTimeout")),
    rnrRetryCount: CmBits.reqRnrRetry.get(number("pathMtu")),
    pathMtu: mtuBytes(CmBits.pathMtu.get(number("pathMtu"))),
    privateData: data.slice(IP_CM_HEADER_BYTES),
  };
}

/** What a REP says. */
export interface ReplyFacts {
  readonly localId: number;
  readonly remoteId: number;
  readonly localGid: Uint8Array;
  readonly qpn: number;
  readonly psn: number;
  readonly initiatorDepth: number;
  readonly responderResources: number;
  readonly rnrRetryCount: number;
  readonly privateData: Uint8Array;
}

export function replyFields(facts: ReplyFacts): CmFields {
  return {
    localCommId: facts.localId,
    remoteCommId: facts.remoteId,
    localQpn: facts.qpn,
    startingPsn: facts.psn,
    responderResources: facts.responderResources,
    initiatorDepth: facts.initiatorDepth,
    rnrRetry: CmBits.repRnrRetry.set(0, facts.rnrRetryCount),
    localCaGuid: facts.localGid.subarray(GID_BYTES - 8),
    privateData: facts.privateData,
  };
}

/** The parts of a REP that the active side uses. */
export interface ReceivedReply {
  readonly commId: number;
  readonly qpn: number;
  readonly psn: number;
  readonly initiatorDepth: number;
  readonly responderResources: number;
  readonly rnrRetryCount: number;
  readonly privateData: Uint8Array;
}

export function readReply(fields: CmFields): ReceivedReply {
  const number = (name: string): number => fields[name] as number;
  return {
    commId: number("localCommId"),
    qpn: number("localQpn"),
    psn: number("startingPsn"),
    initiatorDepth: number("initiatorDepth"),
    responderResources: number("responderResources"),
    rnrRetryCount: CmBits.repRnrRetry.get(number("rnrRetry")),
    privateData: fields["privateData"] as Uint8Array,
  };
}
