/**
 * The TCP transport of the target: listens on a socket, makes a queue with its receive ring for
 * each connection, answers ICReq, ends connections that break the protocol. NVM Express TCP
 * Transport Specification 1.0, section 3.
 *
 * The CPU is what moves the data here, as a NIC does over RDMA: between its sockets and host
 * memory, or a provider's BAR where the namespace takes peer memory. Payload is copied once in user
 * space either way, and counted (`copies` of `inspect`): Node's sockets take and give buffers of
 * their own, so that this copy is what the socket needs.
 *
 * Invariants: every connection ends in `released`, and then nothing of it is left; there are at
 * most `TCP_CONNECTIONS_MAX`, and the target ends one that sends no Connect command in time.
 *
 * Leaves out: more than one R2T per command, `SO_BUSY_POLL` and other
 * tuning of sockets.
 */

import type { BackingMachine, HostRegion } from "../../../backing/interface.ts";
import {
  Copier,
  encodeLayout,
  type Inspectable,
  NVMET_QUEUE_DEPTH_MAX,
  PAGE_SIZE,
  PeerlaneError,
  TCP_CONNECTIONS_MAX,
  TCP_H2C_DATA_BYTES_MAX,
  type Tree,
} from "../../../core/index.ts";
import type {
  ByteStream,
  Network,
  StreamAddress,
  StreamListener,
  TlsServer,
} from "../../../platform/index.ts";
import {
  COMMAND_BYTES,
  RESPONSE_BYTES,
  TCP_ADMIN_IN_CAPSULE_BYTES,
  TCP_C2H_TERM_REQ,
  TCP_FES_NAMES,
  TCP_HLEN,
  TCP_ICRESP,
  TCP_PDU_TYPES,
  TcpPdu,
} from "../../../spec/nvmf/index.ts";
import { parseTlsIdentity } from "../../auth/tls-psk.ts";
import type { QueueOrigin } from "../../channel.ts";
import type { Port } from "../../port.ts";
import { TargetRequest } from "../../request.hot.ts";
import type { Target } from "../../target.ts";
import { PduWriter } from "./pdu-writer.hot.ts";
import { type TcpChannelOwner, TcpTargetChannel } from "./target-channel.hot.ts";

export interface TcpTargetOptions {
  readonly target: Target;
  readonly port: Port;
  readonly network: Network;
  /** Its host memory takes the data; its disks reach that. */
  readonly machine: BackingMachine;
  /** Largest queue. Default 128. */
  readonly depthMax?: number;
  /** Data bytes that a capsule of an I/O queue may carry. Default, and most: 8 KiB. */
  readonly inCapsuleBytes?: number;
  /** Connections at once. Default, and most: `TCP_CONNECTIONS_MAX`. */
  readonly connectionsMax?: number;
  /** Alignment to ask of the host, CPDA: dwords, 0's based. Default 0. */
  readonly cpda?: number;
  /** Something arrived: poll. */
  readonly wake?: () => void;
  /** Told of connections that come, go and break rules. */
  readonly onEvent?: (event: TcpEvent) => void;
}

export interface TcpEvent {
  readonly what: "connected" | "refused" | "terminated" | "stalled" | "closed";
  readonly peer: string;
  /** Empty for `connected`. */
  readonly reason: string;
}

/** Bytes, PDUs and troubles of a port's connections. */
export interface TcpTraffic {
  bytesIn: number;
  bytesOut: number;
  /** PDUs that were received and sent, by type (`TcpPdu`). */
  readonly received: Float64Array;
  readonly sent: Float64Array;
  /** Times that reading paused because too much waited, and that answers waited for room. */
  readPauses: number;
  sendStalls: number;
  dataDigestErrors: number;
}

const noTraffic = (): TcpTraffic => ({
  bytesIn: 0,
  bytesOut: 0,
  received: new Float64Array(TCP_PDU_TYPES),
  sent: new Float64Array(TCP_PDU_TYPES),
  readPauses: 0,
  sendStalls: 0,
  dataDigestErrors: 0,
});

function addTraffic(sum: TcpTraffic, channel: TcpTargetChannel): void {
  const { reader, writer } = channel;
  sum.bytesIn += channel.bytesIn;
  sum.bytesOut += writer.bytesOut;
  for (let type = 0; type < TCP_PDU_TYPES; type++) {
    sum.received[type] += reader.counts[type];
    sum.sent[type] += writer.counts[type];
  }
  sum.readPauses += channel.pauses;
  sum.sendStalls += writer.stalls;
  sum.dataDigestErrors += channel.dataDigestErrors;
}

interface Session {
  readonly channel: TcpTargetChannel;
  readonly region: HostRegion;
}

const DEPTH_MAX = 128;
const NO_OP = (): void => undefined;

export class TcpTargetTransport implements TcpChannelOwner, Inspectable {
  readonly port: Port;
  readonly counters = {
    accepted: 0,
    refused: 0,
    closed: 0,
    /** Connections ended because their host took or sent no data for too long. */
    stalled: 0,
    /** Connections ended by a C2HTermReq, by its FES. */
    terminated: new Map<string, number>(),
  };
  /** Of connections that are gone. */
  private readonly endedCopies = { fromSocket: 0, toSocket: 0 };
  private readonly ended = noTraffic();
  private readonly options: TcpTargetOptions;
  private readonly depthMax: number;
  private readonly connectionsMax: number;
  private readonly sessions = new Map<TcpTargetChannel, Session>();
  private readonly copier = new Copier();
  private readonly wakeUp: () => void;
  private listener: StreamListener | null = null;
  private onEmpty: () => void = NO_OP;

  constructor(options: TcpTargetOptions) {
    this.options = options;
    this.port = options.port;
    this.depthMax = Math.min(options.depthMax ?? DEPTH_MAX, NVMET_QUEUE_DEPTH_MAX);
    this.connectionsMax = Math.min(
      options.connectionsMax ?? TCP_CONNECTIONS_MAX,
      TCP_CONNECTIONS_MAX,
    );
    this.wakeUp = options.wake ?? NO_OP;
  }

  /** Listens at the port's address. Throws `listen-failed`. */
  async start(): Promise<void> {
    const at = { address: this.port.address, port: Number(this.port.serviceId) };
    const accept = (stream: ByteStream): void => this.accept(stream);
    const tls = this.port.tls === "none" ? undefined : this.tls(this.port.tls === "required");
    this.listener = await this.options.network.listen(at, accept, tls);
  }

  private tls(required: boolean): TlsServer {
    const { target } = this.options;
    const { security } = target;
    return {
      required,
      handshakeTimeoutMs: target.handshakeTimeoutMs,
      keyFor: (identity) => security.tlsKey(identity)?.key ?? null,
      refused: (peer, reason) => {
        this.counters.refused++;
        this.options.onEvent?.({ what: "refused", peer, reason });
      },
    };
  }

  /** The names that a TLS connection's key is for. */
  private namesOf(stream: ByteStream): Pick<QueueOrigin, "secure"> {
    const identity = stream.tlsIdentity === null ? null : parseTlsIdentity(stream.tlsIdentity);
    if (identity === null) return {};
    const { hostNqn, subsystemNqn } = identity;
    return { secure: { hostNqn, subsystemNqn } };
  }

  private accept(stream: ByteStream): void {
    if (this.sessions.size >= this.connectionsMax) {
      this.refuse(stream, `there are ${this.connectionsMax} connections already`);
      return;
    }
    const { machine, target } = this.options;
    const slots = this.depthMax;
    const stride = COMMAND_BYTES + TCP_ADMIN_IN_CAPSULE_BYTES;
    const responsesAt = slots * stride;
    const bytes = responsesAt + slots * RESPONSE_BYTES;
    const region = this.ringOf(bytes, stream);
    if (region === null) return;
    const requests = Array.from({ length: slots }, (_, tag) => {
      const at = responsesAt + tag * RESPONSE_BYTES;
      const request = new TargetRequest(tag, region.bytes, tag * stride, region.bytes, at);
      request.usesStream = true;
      return request;
    });
    const writer = new PduWriter(stream, this.copier, this.wakeUp);
    const cpda = this.options.cpda ?? 0;
    const channel = new TcpTargetChannel({ owner: this, stream, writer, requests, cpda });
    channel.queue = target.addQueue(
      channel,
      {
        portId: this.port.id,
        nic: null,
        cpu: machine,
        capsules: region,
        inCapsuleBytes: Math.min(
          this.options.inCapsuleBytes ?? TCP_ADMIN_IN_CAPSULE_BYTES,
          TCP_ADMIN_IN_CAPSULE_BYTES,
        ),
        depthMax: slots,
        ioDepthMax: slots,
        qid: -1,
        peer: stream.peer,
        localAddress: stream.localAddress,
        ...this.namesOf(stream),
      },
      requests,
    );
    this.sessions.set(channel, { channel, region });
    this.counters.accepted++;
    this.tell("connected", stream, "");
    stream.start(channel);
  }

  private refuse(stream: ByteStream, reason: string): void {
    this.counters.refused++;
    this.tell("refused", stream, reason);
    stream.destroy();
  }

  /** Memory for a connection's receive ring; null: there is none, and it is refused. */
  private ringOf(bytes: number, stream: ByteStream): HostRegion | null {
    try {
      return this.options.machine.allocateHost(bytes, PAGE_SIZE, "capsules");
    } catch (error) {
      if (!(error instanceof PeerlaneError)) throw error;
      this.refuse(stream, error.message);
      return null;
    }
  }

  private tell(what: TcpEvent["what"], stream: ByteStream, reason: string): void {
    this.options.onEvent?.({ what, peer: stream.peer, reason });
  }

  initialize(channel: TcpTargetChannel, digests: number): void {
    const bytes = new Uint8Array(TCP_HLEN[TcpPdu.ICRESP]);
    const values = {
      "PDU-Type": TcpPdu.ICRESP,
      HLEN: bytes.length,
      PLEN: bytes.length,
      CPDA: this.options.cpda ?? 0,
      DGST: digests,
      MAXH2CDATA: TCP_H2C_DATA_BYTES_MAX,
    };
    encodeLayout(TCP_ICRESP, values, bytes);
    channel.writer.counts[TcpPdu.ICRESP]++;
    channel.stream.write(bytes);
  }

  terminate(channel: TcpTargetChannel): void {
    const { fes, fei, header, headerBytes } = channel.reader;
    const name = TCP_FES_NAMES[fes] ?? `FES ${fes}`;
    this.counters.terminated.set(name, (this.counters.terminated.get(name) ?? 0) + 1);
    this.tell("terminated", channel.stream, `${name}, FEI ${fei}`);
    const hlen = TCP_HLEN[TcpPdu.C2H_TERM_REQ];
    const bytes = new Uint8Array(hlen + headerBytes);
    const values = {
      "PDU-Type": TcpPdu.C2H_TERM_REQ,
      HLEN: hlen,
      PLEN: bytes.length,
      FES: fes,
      FEI: fei,
    };
    encodeLayout(TCP_C2H_TERM_REQ, values, bytes);
    bytes.set(header.subarray(0, headerBytes), hlen);
    // Behind the answers that were built before it.
    channel.writer.flush();
    channel.writer.counts[TcpPdu.C2H_TERM_REQ]++;
    channel.stream.write(bytes);
  }

  stalled(channel: TcpTargetChannel, reason: string): void {
    this.counters.stalled++;
    this.tell("stalled", channel.stream, reason);
  }

  lost(channel: TcpTargetChannel, reason: string): void {
    if (channel.queue !== null) this.options.target.dropQueue(channel.queue, reason);
  }

  released(channel: TcpTargetChannel): void {
    const session = this.sessions.get(channel);
    if (session === undefined) return;
    this.sessions.delete(channel);
    this.endedCopies.fromSocket += channel.reader.copiedBytes;
    this.endedCopies.toSocket += channel.writer.copiedBytes;
    addTraffic(this.ended, channel);
    this.counters.closed++;
    this.tell("closed", channel.stream, channel.ended ?? "closed");
    this.options.machine.freeHost(session.region);
    if (this.sessions.size === 0) this.onEmpty();
  }

  wake(): void {
    this.wakeUp();
  }

  /** Listens no more and ends all connections; poll until {@link connections} is 0. */
  async close(): Promise<void> {
    await this.listener?.close();
    this.listener = null;
    for (const channel of [...this.sessions.keys()]) this.lost(channel, "port closed");
    // Not by waiting in a loop: what drains may need a turn of the event loop (a sync of a file).
    if (this.sessions.size === 0) return;
    await new Promise<void>((resolve) => {
      this.onEmpty = resolve;
    });
  }

  /**
   * Data bytes that were copied in user space: between the sockets' buffers and memory, once per
   * byte. The data of Connect, Identify and their like is among them.
   */
  get copies(): { readonly fromSocket: number; readonly toSocket: number } {
    let { fromSocket, toSocket } = this.endedCopies;
    for (const { reader, writer } of this.sessions.keys()) {
      fromSocket += reader.copiedBytes;
      toSocket += writer.copiedBytes;
    }
    return { fromSocket, toSocket };
  }

  /** Where it listens, with the port that was chosen; null when it does not. */
  get at(): StreamAddress | null {
    return this.listener?.at ?? null;
  }

  /** What its connections did since it was made. */
  get traffic(): TcpTraffic {
    const { received, sent } = this.ended;
    const sum = { ...this.ended, received: received.slice(), sent: sent.slice() };
    for (const channel of this.sessions.keys()) addTraffic(sum, channel);
    return sum;
  }

  get connections(): number {
    return this.sessions.size;
  }

  inspect(): Tree {
    return {
      port: this.port.id,
      listening: this.listener !== null,
      depthMax: this.depthMax,
      accepted: this.counters.accepted,
      refused: this.counters.refused,
      closed: this.counters.closed,
      stalled: this.counters.stalled,
      terminated: Object.fromEntries(this.counters.terminated),
      copies: this.copies,
      connections: [...this.sessions.keys()].map((channel) => ({
        peer: channel.stream.peer,
        tls: channel.stream.tlsIdentity !== null,
        ended: channel.ended,
        headerDigest: channel.reader.headerDigest,
        dataDigest: channel.reader.dataDigest,
        pdus: channel.reader.pdus,
        sendStalls: channel.writer.stalls,
        dataDigestErrors: channel.dataDigestErrors,
        pendingBytes: channel.stream.pendingBytes,
      })),
    };
  }
}
