/**
 * The state machine of connections, IBA 12.9:
 *
 *     active:  REQ sent -> REP received (queue pair to RTR, RTS) -> RTU sent -> established
 *     passive: REQ received -> accept (queue pair to RTR, RTS) -> REP sent -> RTU -> established
 *     either:  DREQ sent or received -> queue pair to ERR -> disconnected
 *
 * The passive queue pair is ready to send before the REP leaves, so that a lost RTU does not matter
 * once data flows.
 *
 * Leaves out: MRA (a passive side that thinks long just gets the REQ again), timewait (QP numbers
 * and PSNs come back late enough), alternate paths, peer-to-peer connection.
 */

import { PeerlaneError } from "../../core/index.ts";
import {
  CmAttribute,
  CmBits,
  type CmFields,
  type CmMessage,
  CmRejected,
  CmRejectReason,
  parseGid,
  QpState,
  timeoutNs,
} from "../../spec/rdma/index.ts";
import {
  type AcceptOptions,
  CmPrivateBytes,
  type Connection,
  type ConnectionRequest,
} from "../cm-types.ts";
import type { RnicDevice } from "../rnic/device.ts";
import type { Qp } from "../verbs.ts";
import type { CmEndpoint } from "./endpoint.ts";
import type { CmExchanges, TimeoutSink } from "./exchanges.ts";
import {
  ACK_TIMEOUT_CODE,
  CM_RETRIES,
  CM_TIMEOUT_CODE,
  checkPrivate,
  DEFAULT_RETRY_COUNT,
  NO_DATA,
  type ReceivedReply,
  type ReceivedRequest,
  readReply,
  readRequest,
  replyFields,
} from "./messages.ts";

/** RNR NAK timer that this side asks for: 0.64 ms. */
const MIN_RNR_TIMER = 12;

/** Attributes of both ends of a connection that RTR and RTS take. */
interface Agreed {
  readonly remoteQpn: number;
  readonly remotePsn: number;
  readonly pathMtu: number;
  /** READs answered and outstanding on this side. */
  readonly maxDestRdAtomic: number;
  readonly maxRdAtomic: number;
  readonly retryCount: number;
  readonly rnrRetry: number;
}

/** Who listens on a port; undefined: nobody. */
export type FindHandler = (port: number) => ((request: ConnectionRequest) => void) | undefined;

export class Handshake implements TimeoutSink {
  timeouts = 0;
  private readonly device: RnicDevice;
  private readonly exchanges: CmExchanges;
  private readonly handlerOf: FindHandler;

  constructor(device: RnicDevice, exchanges: CmExchanges, handlerOf: FindHandler) {
    this.device = device;
    this.exchanges = exchanges;
    this.handlerOf = handlerOf;
  }

  receive(source: string, message: CmMessage): void {
    const { attribute, fields } = message;
    if (attribute === CmAttribute.req) {
      this.receiveReq(source, message);
      return;
    }
    const endpoint = this.exchanges.endpoints.get(fields["remoteCommId"] as number);
    if (endpoint === undefined || endpoint.remoteAddress !== source) {
      this.answerStranger(source, message);
      return;
    }
    switch (attribute) {
      case CmAttribute.rep:
        this.receiveRep(endpoint, fields);
        return;
      case CmAttribute.rtu:
        if (endpoint.cmState === "rep-sent") this.established(endpoint);
        return;
      case CmAttribute.rej:
        this.receiveRej(endpoint, fields);
        return;
      case CmAttribute.dreq:
        this.exchanges.sendDrep(endpoint);
        this.end(endpoint, true);
        return;
      case CmAttribute.drep:
        if (endpoint.cmState === "dreq-sent") this.end(endpoint, false);
        return;
      default:
        return;
    }
  }

  /** A message for a connection that is not there (any more). */
  private answerStranger(source: string, message: CmMessage): void {
    const { attribute, transactionId, fields } = message;
    const swapped = {
      localCommId: fields["remoteCommId"] as number,
      remoteCommId: fields["localCommId"] as number,
    };
    const gid = parseGid(source);
    if (attribute === CmAttribute.dreq) {
      this.exchanges.sendTo(gid, CmAttribute.drep, transactionId, swapped);
    } else if (attribute === CmAttribute.rep) {
      const reason = CmRejectReason.invalidCommId;
      const rejected = CmBits.rejected.set(0, CmRejected.rep);
      this.exchanges.sendTo(gid, CmAttribute.rej, transactionId, { ...swapped, reason, rejected });
    }
  }

  private receiveReq(source: string, message: CmMessage): void {
    const request = readRequest(message.fields);
    for (const known of this.exchanges.endpoints.values()) {
      if (known.remoteAddress !== source || known.remoteId !== request.commId) continue;
      // Sent again because our answer was lost, or is not there yet.
      const { exchange } = known;
      if (exchange?.attribute === CmAttribute.rep) {
        this.exchanges.send(known, CmAttribute.rep, exchange.fields);
      }
      return;
    }
    const gid = parseGid(source);
    const { port } = request;
    const handler = port === null ? undefined : this.handlerOf(port);
    const mtuFits = request.pathMtu <= this.device.attributes.activeMtu;
    const full = this.exchanges.endpoints.size >= this.device.attributes.qpMax;
    if (port === null || handler === undefined || !mtuFits || full) {
      this.exchanges.sendTo(gid, CmAttribute.rej, message.transactionId, {
        localCommId: 0,
        remoteCommId: request.commId,
        rejected: CmBits.rejected.set(0, CmRejected.req),
        reason: full
          ? CmRejectReason.noResources
          : mtuFits
            ? CmRejectReason.invalidServiceId
            : CmRejectReason.invalidMtu,
      });
      return;
    }
    const endpoint = this.exchanges.makeEndpoint(
      source,
      gid,
      "req-received",
      null,
      message.transactionId,
    );
    endpoint.remoteId = request.commId;
    endpoint.remoteQpn = request.qpn;
    endpoint.privateData = request.privateData;
    handler(this.requestFor(endpoint, request, port));
  }

  private requestFor(
    endpoint: CmEndpoint,
    request: ReceivedRequest,
    port: number,
  ): ConnectionRequest {
    return {
      remoteAddress: endpoint.remoteAddress,
      remotePort: request.sourcePort,
      port,
      privateData: request.privateData,
      initiatorDepth: request.initiatorDepth,
      responderResources: request.responderResources,
      accept: (qp, options = {}) => this.accept(endpoint, request, qp, options),
      reject: (privateData = NO_DATA, reason = CmRejectReason.consumer) => {
        checkPrivate(privateData, CmPrivateBytes.reject);
        this.checkUnanswered(endpoint);
        this.exchanges.sendRej(endpoint, CmRejected.req, reason, privateData);
        this.end(endpoint, false);
      },
    };
  }

  private checkUnanswered(endpoint: CmEndpoint): void {
    if (endpoint.cmState === "req-received" && endpoint.queuePair === null) return;
    throw new PeerlaneError("cm-answered", "the connection request was answered before", {
      remedy: "accept or reject a request once",
    });
  }

  private async accept(
    endpoint: CmEndpoint,
    request: ReceivedRequest,
    qp: Qp,
    options: AcceptOptions,
  ): Promise<Connection> {
    const { privateData = NO_DATA } = options;
    checkPrivate(privateData, CmPrivateBytes.reply);
    this.checkUnanswered(endpoint);
    endpoint.queuePair = qp;
    const { readDepthMax } = this.device.attributes;
    const responderResources = Math.min(
      request.initiatorDepth,
      options.responderResources ?? readDepthMax,
      readDepthMax,
    );
    endpoint.initiatorDepth = Math.min(
      request.responderResources,
      options.initiatorDepth ?? readDepthMax,
      readDepthMax,
    );
    const result = new Promise<Connection>((resolve, reject) => {
      endpoint.opening = { resolve, reject };
    });
    try {
      await this.bringUp(endpoint, {
        remoteQpn: request.qpn,
        remotePsn: request.psn,
        pathMtu: request.pathMtu,
        maxDestRdAtomic: responderResources,
        maxRdAtomic: endpoint.initiatorDepth,
        retryCount: request.retryCount,
        rnrRetry: request.rnrRetryCount,
      });
    } catch (error) {
      this.exchanges.sendRej(endpoint, CmRejected.req, CmRejectReason.noResources, NO_DATA);
      this.end(endpoint, true);
      throw error;
    }
    const fields = replyFields({
      localId: endpoint.localId,
      remoteId: endpoint.remoteId,
      localGid: this.device.gid,
      qpn: qp.number,
      psn: endpoint.localPsn,
      initiatorDepth: endpoint.initiatorDepth,
      responderResources,
      rnrRetryCount: options.rnrRetryCount ?? DEFAULT_RETRY_COUNT,
      privateData,
    });
    endpoint.cmState = "rep-sent";
    this.exchanges.begin(endpoint, CmAttribute.rep, fields, timeoutNs(CM_TIMEOUT_CODE), CM_RETRIES);
    return result;
  }

  private receiveRep(endpoint: CmEndpoint, fields: CmFields): void {
    if (endpoint.cmState === "established") {
      this.exchanges.sendRtu(endpoint);
      return;
    }
    if (endpoint.cmState !== "req-sent") return;
    const reply = readReply(fields);
    const request = endpoint.exchange?.fields ?? {};
    endpoint.cmState = "rep-received";
    endpoint.exchange = null;
    endpoint.remoteId = reply.commId;
    endpoint.remoteQpn = reply.qpn;
    endpoint.privateData = reply.privateData;
    endpoint.initiatorDepth = Math.min(endpoint.initiatorDepth, reply.responderResources);
    this.confirm(endpoint, reply, request).catch((error: unknown) => {
      const waiter = endpoint.opening;
      endpoint.opening = null;
      this.exchanges.sendRej(endpoint, CmRejected.rep, CmRejectReason.noResources, NO_DATA);
      this.end(endpoint, true);
      waiter?.reject(error);
    });
  }

  private async confirm(
    endpoint: CmEndpoint,
    reply: ReceivedReply,
    request: CmFields,
  ): Promise<void> {
    const sent = readRequest(request);
    await this.bringUp(endpoint, {
      remoteQpn: reply.qpn,
      remotePsn: reply.psn,
      pathMtu: sent.pathMtu,
      maxDestRdAtomic: Math.min(sent.responderResources, reply.initiatorDepth),
      maxRdAtomic: endpoint.initiatorDepth,
      retryCount: sent.retryCount,
      rnrRetry: reply.rnrRetryCount,
    });
    this.exchanges.sendRtu(endpoint);
    this.established(endpoint);
  }

  /** INIT or RESET to RTS. */
  private async bringUp(endpoint: CmEndpoint, agreed: Agreed): Promise<void> {
    const { qp } = endpoint;
    await toInit(qp);
    await qp.modify({
      state: QpState.rtr,
      path: endpoint.remoteAddress,
      pathMtu: agreed.pathMtu,
      destQpn: agreed.remoteQpn,
      rqPsn: agreed.remotePsn,
      maxDestRdAtomic: agreed.maxDestRdAtomic,
      minRnrTimer: MIN_RNR_TIMER,
    });
    await qp.modify({
      state: QpState.rts,
      sqPsn: endpoint.localPsn,
      timeout: ACK_TIMEOUT_CODE,
      retryCount: agreed.retryCount,
      rnrRetry: agreed.rnrRetry,
      maxRdAtomic: agreed.maxRdAtomic,
    });
  }

  private receiveRej(endpoint: CmEndpoint, fields: CmFields): void {
    const waiter = endpoint.opening;
    if (waiter === null) return;
    endpoint.opening = null;
    const wasActive = endpoint.cmState === "req-sent";
    this.end(endpoint, !wasActive);
    const reason = fields["reason"] as number;
    waiter.reject(
      new PeerlaneError("cm-rejected", `${endpoint.remoteAddress} rejected the connection`, {
        remedy:
          reason === CmRejectReason.invalidServiceId
            ? "nobody listens on that port"
            : "the reason says why; reason 28 is the consumer's own, see its private data",
        details: { reason, privateData: fields["privateData"] as Uint8Array },
      }),
    );
  }

  private established(endpoint: CmEndpoint): void {
    endpoint.cmState = "established";
    endpoint.exchange = null;
    const waiter = endpoint.opening;
    endpoint.opening = null;
    waiter?.resolve(endpoint);
  }

  /** The connection is over. `failQp`: its queue pair goes to error. */
  end(endpoint: CmEndpoint, failQp: boolean): void {
    if (endpoint.cmState === "disconnected") return;
    const opened = endpoint.cmState === "established" || endpoint.cmState === "dreq-sent";
    endpoint.cmState = "disconnected";
    endpoint.exchange = null;
    this.exchanges.endpoints.delete(endpoint.localId);
    const { opening, closing } = endpoint;
    endpoint.opening = null;
    endpoint.closing = null;
    opening?.reject(
      new PeerlaneError("cm-disconnected", `${endpoint.remoteAddress} ended the connection`, {
        remedy: "look at the peer's side",
      }),
    );
    const tell = (): void => {
      closing?.resolve();
      if (opened) endpoint.onDisconnect?.(endpoint);
    };
    if (!failQp) {
      tell();
      return;
    }
    toError(endpoint.queuePair).then(tell, () => {
      this.device.report({ kind: "device-fatal", number: endpoint.queuePair?.number ?? 0 });
      tell();
    });
  }

  timedOut(endpoint: CmEndpoint): void {
    this.timeouts++;
    const was = endpoint.cmState;
    const waiter = endpoint.opening;
    endpoint.opening = null;
    this.end(endpoint, was === "rep-sent");
    waiter?.reject(
      new PeerlaneError("cm-timeout", `no answer from ${endpoint.remoteAddress}`, {
        remedy: "check the address, the wire, and that somebody listens and polls there",
        details: { state: was },
      }),
    );
  }
}

/** From RESET to INIT; nothing when it is there already. */
export async function toInit(qp: Qp): Promise<void> {
  if (qp.state !== QpState.reset) return;
  await qp.modify({ state: QpState.init, pkeyIndex: 0, port: 1, accessFlags: qp.remoteAccess });
}

export async function toError(qp: Qp | null): Promise<void> {
  if (qp === null || qp.state === QpState.reset) return;
  await qp.modify({ state: QpState.error });
}
