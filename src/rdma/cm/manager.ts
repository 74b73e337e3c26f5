/**
 * The connection manager: listens, connects, disconnects, polls. Messages and their retries are in
 * exchanges.ts, the state machine in handshake.ts, the management channel in channel.ts.
 *
 * Invariant: Promises settle and handlers are called from inside `poll`, or from the control verbs
 * that `poll` started; nothing waits on real time.
 */

import { type Inspectable, PeerlaneError, type Prng, type Tree } from "../../core/index.ts";
import { CmAttribute, decodeCm, parseGid, timeoutNs } from "../../spec/rdma/index.ts";
import {
  CmPrivateBytes,
  type Connection,
  type ConnectionManager,
  type ConnectionRequest,
  type ConnectOptions,
  type Listener,
} from "../cm-types.ts";
import type { RnicDevice } from "../rnic/device.ts";
import type { MadChannel } from "./channel.ts";
import type { CmEndpoint, EndpointOwner } from "./endpoint.ts";
import { CmExchanges } from "./exchanges.ts";
import { Handshake, toError, toInit } from "./handshake.ts";
import {
  CM_RETRIES,
  CM_TIMEOUT_CODE,
  checkPrivate,
  DEFAULT_RETRY_COUNT,
  NO_DATA,
  requestFields,
} from "./messages.ts";

const FIRST_EPHEMERAL_PORT = 49_152;

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
  private readonly exchanges: CmExchanges;
  private readonly handshake: Handshake;
  private readonly listeners = new Map<number, PortListener>();
  private nextPort = FIRST_EPHEMERAL_PORT;

  constructor(device: RnicDevice, channel: MadChannel, prng: Prng) {
    this.device = device;
    this.channel = channel;
    this.exchanges = new CmExchanges(channel, device.dma.fn.machine.clock, prng, this);
    this.handshake = new Handshake(
      device,
      this.exchanges,
      (port) => this.listeners.get(port)?.handler,
    );
  }

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
    const endpoint = this.exchanges.makeEndpoint(address, remoteGid, "req-sent", qp);
    const retries = options.retries ?? CM_RETRIES;
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
    this.exchanges.begin(endpoint, CmAttribute.req, requestFields(facts), timeout, retries);
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
      this.exchanges.begin(endpoint, CmAttribute.dreq, fields, timeout, CM_RETRIES);
    }
    await told;
  }

  poll(): number {
    const done = this.channel.poll((source, bytes, offset) => {
      const message = decodeCm(bytes, offset);
      if (message !== null) this.handshake.receive(source, message);
    });
    const waiting = this.exchanges.checkDeadlines(this.handshake);
    if (done > 0 || waiting === 0) {
      this.exchanges.busy();
      return done;
    }
    this.exchanges.idle();
    // Somebody waits for an answer: the loop around must not take this for idleness.
    return 1;
  }

  private takePort(): number {
    const port = this.nextPort;
    this.nextPort = port === 0xffff ? FIRST_EPHEMERAL_PORT : port + 1;
    return port;
  }

  inspect(): Tree {
    return {
      listeners: [...this.listeners.keys()],
      connections: [...this.exchanges.endpoints.values()].map((endpoint) => endpoint.inspect()),
      timeouts: this.handshake.timeouts,
      channel: this.channel.inspect(),
    };
  }
}
