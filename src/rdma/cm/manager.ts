/**
 * The connection manager: the state machine of IBA 12.9 over the management channel.
 *
 *     active:  connect -> REQ sent -> REP received (queue pair to RTR, RTS) -> RTU -> established
 *     passive: REQ received -> accept (queue pair to RTR, RTS) -> REP sent -> RTU -> established
 *     either:  disconnect (queue pair to ERR) -> DREQ sent -> DREP received -> disconnected
 *
 * REQ, REP and DREQ are sent again until answered or out of retries. The passive queue pair is ready
 * to send before the REP leaves, so that a lost RTU does not matter once data flows.
 *
 * Time: deadlines are on the machine's clock. A simulated clock stands still while nobody moves it,
 * so with an answer outstanding and nothing else to do, `poll` lets a part of the time-out pass.
 *
 * Leaves out: MRA (a passive side that thinks long just gets the REQ again), timewait (QP numbers
 * and PSNs come back late enough), alternate paths, peer-to-peer connection.
 */

import type { DriverClock } from "../../backing/interface.ts";
import { type Inspectable, PeerlaneError, type Prng, type Tree } from "../../core/index.ts";
import {
  CmAttribute,
  CmBits,
  type CmFields,
  type CmMessage,
  CmRejected,
  CmRejectReason,
  decodeCm,
  encodeCm,
  parseGid,
  QpState,
  timeoutNs,
} from "../../spec/rdma/index.ts";
import {
  type AcceptOptions,
  CmPrivateBytes,
  type Connection,
  type ConnectionManager,
  type ConnectionRequest,
  type ConnectOptions,
  type Listener,
} from "../cm-types.ts";
import type { RnicDevice } from "../rnic/device.ts";
import type { Qp } from "../verbs.ts";
import type { MadChannel } from "./channel.ts";
import { CmEndpoint, type EndpointOwner } from "./endpoint.ts";
import {
  ACK_TIMEOUT_CODE,
  CM_TIMEOUT_CODE,
  type ReceivedReply,
  type ReceivedRequest,
  readReply,
  readRequest,
  replyFields,
  requestFields,
} from "./messages.ts";

const NO_DATA = new Uint8Array(0);
const DEFAULT_RETRIES = 15;
const DEFAULT_RETRY_COUNT = 7;
/** RNR NAK timer that this side asks for: 0.64 ms. */
const MIN_RNR_TIMER = 12;
const FIRST_EPHEMERAL_PORT = 49_152;
/** Polls with nothing to do before time is moved, and parts a time-out passes in. */
const IDLE_POLLS = 16;
const TIME_PARTS = 8;

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

class PortListener implements Listener {
  readonly port: number;
  readonly handler: (request: ConnectionRequest) => void;
  private readonly listeners: Map<number, PortListener>;

  constructor(
    port: number,
    handler: (request: ConnectionRequest) => void,
    listeners: Map<number, PortListener>,
  ) {
    this.port = port;
    this.handler = handler;
    this.listeners = listeners;
  }

  close(): void {
    this.listeners.delete(this.port);
  }

  inspect(): Tree {
    return { port: this.port };
  }
}

export class CmManager implements ConnectionManager, EndpointOwner, Inspectable {
  private readonly device: RnicDevice;
  private readonly channel: MadChannel;
  private readonly clock: DriverClock;
  private readonly prng: Prng;
  private readonly listeners = new Map<number, PortListener>();
  private readonly endpoints = new Map<number, CmEndpoint>();
  private nextId: number;
  private nextPort = FIRST_EPHEMERAL_PORT;
  private idlePolls = 0;
  private moving = false;
  private timeouts = 0;

  constructor(device: RnicDevice, channel: MadChannel, prng: Prng) {
    this.device = device;
    this.channel = channel;
    this.clock = device.dma.fn.machine.clock;
    this.prng = prng;
    this.nextId = 1 + prng.below(2 ** 31);
  }

  // --- verbs of the user

  listen(port: number, handler: (request: ConnectionRequest) => void): Listener {
    if (this.listeners.has(port)) {
      throw new PeerlaneError("cm-port-busy", `port ${port} has a listener`, {
        remedy: "close that one first, or choose another port",
      });
    }
    const listener = new PortListener(port, handler, this.listeners);
    this.listeners.set(port, listener);
    return listener;
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    const { qp, address, port, privateData = NO_DATA } = options;
    checkPrivate(privateData, CmPrivateBytes.request);
    const remoteGid = parseGid(address);
    await toInit(qp);
    const { readDepthMax, activeMtu } = this.device.attributes;
    const endpoint = this.makeEndpoint(address, remoteGid, "req-sent", qp);
    const retries = options.retries ?? DEFAULT_RETRIES;
    endpoint.initiatorDepth = options.initiatorDepth ?? readDepthMax;
    const facts = {
      localId: endpoint.localId,
      port,
      sourcePort: this.takePort(),
      localGid: this.device.gid,
      remoteGid,
      qpn: qp.number,
      psn: endpoint.localPsn,
      initiatorDepth: endpoint.initiatorDepth,
      responderResources: options.responderResources ?? readDepthMax,
      retryCount: options.retryCount ?? DEFAULT_RETRY_COUNT,
      rnrRetryCount: options.rnrRetryCount ?? DEFAULT_RETRY_COUNT,
      retries: Math.min(retries, 15),
      pathMtu: activeMtu,
      privateData,
    };
    const result = new Promise<Connection>((resolve, reject) => {
      endpoint.opening = { resolve, reject };
    });
    const timeout = options.timeoutNs ?? timeoutNs(CM_TIMEOUT_CODE);
    this.begin(endpoint, CmAttribute.req, requestFields(facts), timeout, retries);
    return result;
  }

  disconnect(endpoint: CmEndpoint): Promise<void> {
    endpoint.closed ??= this.finish(endpoint);
    return endpoint.closed;
  }

  private async finish(endpoint: CmEndpoint): Promise<void> {
    if (endpoint.cmState === "disconnected") return;
    const told = new Promise<void>((resolve, reject) => {
      endpoint.closing = { resolve, reject };
    });
    endpoint.cmState = "dreq-sent";
    await toError(endpoint.queuePair);
    // The peer's DREQ may have come while the queue pair changed.
    if (endpoint.state !== "disconnected") {
      const fields = {
        localCommId: endpoint.localId,
        remoteCommId: endpoint.remoteId,
        remoteQpn: endpoint.remoteQpn,
      };
      const timeout = timeoutNs(CM_TIMEOUT_CODE);
      this.begin(endpoint, CmAttribute.dreq, fields, timeout, DEFAULT_RETRIES);
    }
    await told;
  }

  // --- polling

  poll(): number {
    const done = this.channel.poll((source, bytes, offset) => {
      const message = decodeCm(bytes, offset);
      if (message !== null) this.receive(source, message);
    });
    const waiting = this.checkDeadlines();
    if (done > 0 || waiting === 0) {
      this.idlePolls = 0;
      return done;
    }
    this.idlePolls++;
    if (this.idlePolls % IDLE_POLLS === 0) this.moveTime();
    // Somebody waits for an answer: the loop around must not take this for idleness.
    return 1;
  }

  /** Sends again what is overdue; how many answers are waited for. */
  private checkDeadlines(): number {
    let waiting = 0;
    const now = this.clock.nowNs();
    for (const endpoint of this.endpoints.values()) {
      const { exchange } = endpoint;
      if (exchange === null) continue;
      waiting++;
      if (now < exchange.deadlineNs) continue;
      if (exchange.retriesLeft === 0) {
        this.timedOut(endpoint);
        continue;
      }
      exchange.retriesLeft--;
      exchange.deadlineNs = now + exchange.timeoutNs;
      this.send(endpoint, exchange.attribute, exchange.fields);
    }
    return waiting;
  }

  private moveTime(): void {
    if (this.moving) return;
    const now = this.clock.nowNs();
    let step = Number.POSITIVE_INFINITY;
    for (const { exchange } of this.endpoints.values()) {
      if (exchange === null) continue;
      step = Math.min(
        step,
        Math.max(exchange.deadlineNs - now, 1),
        exchange.timeoutNs / TIME_PARTS,
      );
    }
    if (!Number.isFinite(step)) return;
    this.moving = true;
    const moved = (): void => {
      this.moving = false;
    };
    this.clock.sleep(Math.ceil(step)).then(moved, moved);
  }

  private timedOut(endpoint: CmEndpoint): void {
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

  // --- messages

  private receive(source: string, message: CmMessage): void {
    const { attribute, fields } = message;
    if (attribute === CmAttribute.req) {
      this.receiveReq(source, message);
      return;
    }
    const endpoint = this.endpoints.get(fields["remoteCommId"] as number);
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
        this.sendDrep(endpoint);
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
      this.sendTo(gid, CmAttribute.drep, transactionId, swapped);
    } else if (attribute === CmAttribute.rep) {
      const reason = CmRejectReason.invalidCommId;
      const rejected = CmBits.rejected.set(0, CmRejected.rep);
      this.sendTo(gid, CmAttribute.rej, transactionId, { ...swapped, reason, rejected });
    }
  }

  private receiveReq(source: string, message: CmMessage): void {
    const request = readRequest(message.fields);
    for (const known of this.endpoints.values()) {
      if (known.remoteAddress !== source || known.remoteId !== request.commId) continue;
      // Sent again because our answer was lost, or is not there yet.
      const { exchange } = known;
      if (exchange?.attribute === CmAttribute.rep) {
        this.send(known, CmAttribute.rep, exchange.fields);
      }
      return;
    }
    const gid = parseGid(source);
    const listener = request.port === null ? undefined : this.listeners.get(request.port);
    const mtuFits = request.pathMtu <= this.device.attributes.activeMtu;
    if (listener === undefined || !mtuFits) {
      this.sendTo(gid, CmAttribute.rej, message.transactionId, {
        localCommId: 0,
        remoteCommId: request.commId,
        rejected: CmBits.rejected.set(0, CmRejected.req),
        reason: mtuFits ? CmRejectReason.invalidServiceId : CmRejectReason.invalidMtu,
      });
      return;
    }
    const endpoint = this.makeEndpoint(source, gid, "req-received", null, message.transactionId);
    endpoint.remoteId = request.commId;
    endpoint.remoteQpn = request.qpn;
    endpoint.privateData = request.privateData;
    listener.handler(this.requestFor(endpoint, request, listener.port));
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
        this.sendRej(endpoint, CmRejected.req, reason, privateData);
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
      this.sendRej(endpoint, CmRejected.req, CmRejectReason.noResources, NO_DATA);
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
    this.begin(endpoint, CmAttribute.rep, fields, timeoutNs(CM_TIMEOUT_CODE), DEFAULT_RETRIES);
    return result;
  }

  private receiveRep(endpoint: CmEndpoint, fields: CmFields): void {
    if (endpoint.cmState === "established") {
      this.sendRtu(endpoint);
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
      this.sendRej(endpoint, CmRejected.rep, CmRejectReason.noResources, NO_DATA);
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
    this.sendRtu(endpoint);
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
  private end(endpoint: CmEndpoint, failQp: boolean): void {
    if (endpoint.cmState === "disconnected") return;
    const opened = endpoint.cmState === "established" || endpoint.cmState === "dreq-sent";
    endpoint.cmState = "disconnected";
    endpoint.exchange = null;
    this.endpoints.delete(endpoint.localId);
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

  // --- sending

  private begin(
    endpoint: CmEndpoint,
    attribute: CmAttribute,
    fields: CmFields,
    timeout: number,
    retries: number,
  ): void {
    const deadlineNs = this.clock.nowNs() + timeout;
    endpoint.exchange = { attribute, fields, deadlineNs, retriesLeft: retries, timeoutNs: timeout };
    this.send(endpoint, attribute, fields);
  }

  private send(endpoint: CmEndpoint, attribute: CmAttribute, fields: CmFields): void {
    this.sendTo(endpoint.remoteGid, attribute, endpoint.transactionId, fields);
  }

  private sendTo(
    gid: Uint8Array,
    attribute: CmAttribute,
    transactionId: number,
    fields: CmFields,
  ): void {
    this.channel.send(gid, (bytes, offset) => {
      encodeCm(attribute, transactionId, fields, bytes, offset);
    });
  }

  private sendRtu(endpoint: CmEndpoint): void {
    const { localId, remoteId } = endpoint;
    this.send(endpoint, CmAttribute.rtu, { localCommId: localId, remoteCommId: remoteId });
  }

  private sendDrep(endpoint: CmEndpoint): void {
    const { localId, remoteId } = endpoint;
    this.send(endpoint, CmAttribute.drep, { localCommId: localId, remoteCommId: remoteId });
  }

  private sendRej(
    endpoint: CmEndpoint,
    what: number,
    reason: number,
    privateData: Uint8Array,
  ): void {
    this.send(endpoint, CmAttribute.rej, {
      localCommId: endpoint.localId,
      remoteCommId: endpoint.remoteId,
      rejected: CmBits.rejected.set(0, what),
      reason,
      privateData,
    });
  }

  private makeEndpoint(
    address: string,
    gid: Uint8Array,
    state: CmEndpoint["cmState"],
    qp: Qp | null,
    transactionId = this.nextId,
  ): CmEndpoint {
    const id = this.nextId;
    this.nextId = (this.nextId % 0xffffffff) + 1;
    const endpoint = new CmEndpoint(this, id, transactionId, address, gid, state, qp);
    endpoint.localPsn = this.prng.below(2 ** 24);
    this.endpoints.set(id, endpoint);
    return endpoint;
  }

  private takePort(): number {
    const port = this.nextPort;
    this.nextPort = port === 0xffff ? FIRST_EPHEMERAL_PORT : port + 1;
    return port;
  }

  inspect(): Tree {
    return {
      listeners: [...this.listeners.keys()],
      connections: [...this.endpoints.values()].map((endpoint) => endpoint.inspect()),
      timeouts: this.timeouts,
      channel: this.channel.inspect(),
    };
  }
}

function checkPrivate(data: Uint8Array, max: number): void {
  if (data.length <= max) return;
  throw new PeerlaneError("cm-private-data", `${data.length} bytes of private data`, {
    remedy: `send at most ${max} bytes with this message`,
  });
}

/** From RESET to INIT; nothing when it is there already. */
async function toInit(qp: Qp): Promise<void> {
  if (qp.state !== QpState.reset) return;
  await qp.modify({ state: QpState.init, pkeyIndex: 0, port: 1, accessFlags: qp.remoteAccess });
}

async function toError(qp: Qp | null): Promise<void> {
  if (qp === null || qp.state === QpState.reset) return;
  await qp.modify({ state: QpState.error });
}
