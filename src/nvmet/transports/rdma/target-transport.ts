/**
 * The RDMA transport of the target: listens on a port, checks what a host says in its private data,
 * makes a queue pair with its receive ring per NVMe queue. NVMe RDMA Transport Specification 1.0,
 * section 3.1.
 *
 * Invariant: a connection request is accepted or rejected, once, with a status that says why; all
 * that was made for a connection is destroyed when its queue has drained.
 *
 * Leaves out: shared receive queues, one completion queue for several queue pairs.
 */

import type { HostRegion } from "../../../backing/interface.ts";
import {
  decodeLayout,
  encodeLayout,
  type Inspectable,
  NVMET_QUEUE_DEPTH_MAX,
  NVMET_SGL_DESCRIPTORS_MAX,
  PAGE_SIZE,
  PeerlaneError,
  type Poller,
  type Tree,
} from "../../../core/index.ts";
import type { DmaDevice } from "../../../dma/index.ts";
import { Direction, type HostMemory, mapHostMemory } from "../../../memory/index.ts";
import type {
  Connection,
  ConnectionRequest,
  Cq,
  Listener,
  Pd,
  Qp,
  RdmaDevice,
} from "../../../rdma/index.ts";
import {
  CNTLID_MAX,
  COMMAND_BYTES,
  RDMA_ACCEPT_PRIVATE,
  RDMA_PRIVATE_BYTES,
  RDMA_REJECT_BYTES,
  RDMA_REJECT_NAMES,
  RDMA_REJECT_PRIVATE,
  RDMA_REQUEST_PRIVATE,
  RdmaRejectStatus,
  RESPONSE_BYTES,
} from "../../../spec/nvmf/index.ts";
import { ADMIN_QUEUE_DEPTH, type Port } from "../../port.ts";
import { TargetRequest } from "../../request.hot.ts";
import type { Target } from "../../target.ts";
import { type ChannelOwner, RdmaTargetChannel } from "./target-channel.hot.ts";

export interface RdmaTargetOptions {
  readonly target: Target;
  readonly port: Port;
  readonly device: RdmaDevice;
  /** Data bytes in a capsule of an I/O queue, a multiple of 16. Default 4096. */
  readonly inCapsuleBytes?: number;
  /** Largest I/O queue. Default 128. */
  readonly depthMax?: number;
}

/** What a host asks for. */
export interface QueueRequest {
  readonly qid: number;
  /** Entries of the submission queue. */
  readonly depth: number;
}

/** All that was made for one connection. */
interface Session {
  readonly channel: RdmaTargetChannel;
  readonly qp: Qp;
  readonly cq: Cq;
  readonly region: HostRegion;
  readonly memory: HostMemory;
  connection: Connection | null;
  ending: Promise<void> | null;
}

const IN_CAPSULE_BYTES = 4096;
const DEPTH_MAX = 128;
/** Slots per submission queue entry: see target-channel.hot.ts. */
const SLOTS_PER_ENTRY = 2;

export class RdmaTargetTransport implements ChannelOwner, Poller, Inspectable {
  readonly port: Port;
  readonly inCapsuleBytes: number;
  readonly counters = { accepted: 0, disconnected: 0, rejected: new Map<string, number>() };
  /** The last error of a background step (teardown of a connection); null: none. */
  lastError: PeerlaneError | null = null;
  private readonly target: Target;
  private readonly device: RdmaDevice;
  private readonly depthMax: number;
  private readonly sessions = new Map<RdmaTargetChannel, Session>();
  private readonly ending = new Set<Promise<void>>();
  private pd: Pd | null = null;
  private listener: Listener | null = null;

  constructor(options: RdmaTargetOptions) {
    this.target = options.target;
    this.port = options.port;
    this.device = options.device;
    this.inCapsuleBytes = options.inCapsuleBytes ?? IN_CAPSULE_BYTES;
    this.depthMax = Math.min(options.depthMax ?? DEPTH_MAX, NVMET_QUEUE_DEPTH_MAX);
  }

  private get nic(): DmaDevice {
    return this.device.dma;
  }

  /** Listens on the port's service. Throws `cm-port-busy`. */
  async start(): Promise<void> {
    this.pd = await this.device.allocPd();
    this.listener = this.device.cm.listen(Number(this.port.serviceId), (request) => {
      this.answer(request).catch((error) => this.refuse(request, error));
    });
  }

  private async answer(request: ConnectionRequest): Promise<void> {
    const asked = checkPrivateData(request, this.depthMax);
    if (typeof asked === "number") {
      this.reject(request, asked);
      return;
    }
    const session = await this.makeSession(asked, request);
    this.counters.accepted++;
    const privateData = new Uint8Array(RDMA_PRIVATE_BYTES);
    encodeLayout(RDMA_ACCEPT_PRIVATE, { CRQSIZE: asked.depth }, privateData);
    try {
      const connection = await request.accept(session.qp, { privateData });
      session.connection = connection;
      connection.onDisconnect = () => this.lost(session.channel, "the host disconnected");
      if (session.channel.ended !== null) await connection.disconnect();
    } catch (error) {
      this.note(error);
      this.lost(session.channel, "the connection was not confirmed");
    }
  }

  /** Out of queue pairs or memory: the host is told so. */
  private refuse(request: ConnectionRequest, error: unknown): void {
    this.note(error);
    this.reject(request, RdmaRejectStatus.NO_RESOURCES);
  }

  private reject(request: ConnectionRequest, status: RdmaRejectStatus): void {
    const name = RDMA_REJECT_NAMES[status] ?? `status ${status}`;
    this.counters.rejected.set(name, (this.counters.rejected.get(name) ?? 0) + 1);
    const privateData = new Uint8Array(RDMA_REJECT_BYTES);
    encodeLayout(RDMA_REJECT_PRIVATE, { STS: status }, privateData);
    request.reject(privateData);
  }

  private async makeSession(asked: QueueRequest, request: ConnectionRequest): Promise<Session> {
    const { nic, pd } = this;
    if (pd === null) throw new PeerlaneError("nvmet-not-started", "the transport is closed");
    const slots = asked.depth * SLOTS_PER_ENTRY;
    const inCapsuleBytes = asked.qid === 0 ? 0 : this.inCapsuleBytes;
    const stride = COMMAND_BYTES + inCapsuleBytes;
    const responsesAt = slots * stride;
    const bytes = responsesAt + slots * RESPONSE_BYTES;
    const region = nic.fn.machine.allocateHost(bytes, PAGE_SIZE, "capsules");
    const memory = mapHostMemory(region, [nic]);
    let cq: Cq | null = null;
    try {
      const sends = sendsFor(slots, this.device.attributes.wrMax);
      cq = await this.device.createCq(slots + sends);
      const qp = await this.device.createQp(pd, {
        sendCq: cq,
        recvCq: cq,
        maxSend: sends,
        maxRecv: slots,
        maxSge: 1,
      });
      const base = memory.map(nic.id, 0, region.bytes.length, Direction.both);
      const requests = Array.from(
        { length: slots },
        (_, tag) =>
          new TargetRequest(
            tag,
            region.bytes,
            tag * stride,
            region.bytes,
            responsesAt + tag * RESPONSE_BYTES,
          ),
      );
      const channel = new RdmaTargetChannel({
        owner: this,
        qp,
        cq,
        lkey: pd.localDmaLkey,
        capsulesAt: base,
        capsuleStride: stride,
        responsesAt: base + responsesAt,
        requests,
      });
      const session = { channel, qp, cq, region, memory, connection: null, ending: null };
      this.sessions.set(channel, session);
      channel.queue = this.target.addQueue(
        channel,
        {
          portId: this.port.id,
          nic,
          capsules: inCapsuleBytes > 0 ? region : null,
          // What Identify announces is about I/O queues.
          inCapsuleBytes: this.inCapsuleBytes,
          depthMax: asked.depth,
          ioDepthMax: this.depthMax,
          qid: asked.qid,
          peer: request.remoteAddress,
        },
        requests,
      );
      channel.postAll();
      return session;
    } catch (error) {
      await cq?.destroy();
      memory.close();
      nic.fn.machine.freeHost(region);
      throw error;
    }
  }

  lost(channel: RdmaTargetChannel, reason: string): void {
    if (channel.queue !== null) this.target.dropQueue(channel.queue, reason);
  }

  disconnect(channel: RdmaTargetChannel): void {
    const connection = this.sessions.get(channel)?.connection ?? null;
    // Without one, `answer` disconnects as soon as there is.
    if (connection !== null) this.inBackground(connection.disconnect());
  }

  released(channel: RdmaTargetChannel): void {
    const session = this.sessions.get(channel);
    if (session === undefined || session.ending !== null) return;
    this.counters.disconnected++;
    session.ending = this.destroy(session);
    this.inBackground(session.ending);
  }

  private async destroy(session: Session): Promise<void> {
    await session.connection?.disconnect();
    await session.qp.destroy();
    await session.cq.destroy();
    session.memory.close();
    this.nic.fn.machine.freeHost(session.region);
    this.sessions.delete(session.channel);
  }

  private inBackground(step: Promise<void>): void {
    const tracked = step.catch((error) => this.note(error));
    this.ending.add(tracked);
    tracked.finally(() => this.ending.delete(tracked));
  }

  private note(error: unknown): void {
    this.lastError =
      error instanceof PeerlaneError
        ? error
        : new PeerlaneError("nvmet-rdma", String(error), { cause: error });
  }

  /** The connection manager's progress; queues are polled by the target. */
  poll(): number {
    return this.device.poll();
  }

  /** Listens no more and waits until all connections are gone; poll meanwhile. */
  async close(): Promise<void> {
    this.listener?.close();
    this.listener = null;
    for (const { channel } of [...this.sessions.values()]) this.lost(channel, "port closed");
    while (this.ending.size > 0 || this.sessions.size > 0) {
      await Promise.all([...this.ending]);
      await Promise.resolve();
    }
    await this.pd?.dealloc();
    this.pd = null;
  }

  inspect(): Tree {
    return {
      port: this.port.id,
      device: this.device.address,
      inCapsuleBytes: this.inCapsuleBytes,
      depthMax: this.depthMax,
      accepted: this.counters.accepted,
      disconnected: this.counters.disconnected,
      rejected: Object.fromEntries(this.counters.rejected),
      lastError: this.lastError?.message ?? null,
      connections: [...this.sessions.keys()].map(({ qp, ended, sendWaits, failures }) => ({
        qp: qp.number,
        ended,
        sendWaits,
        failures,
      })),
    };
  }
}

/**
 * Send work requests of one queue: room for a response per slot and some transfers of several
 * pieces; what does not fit waits.
 */
function sendsFor(slots: number, wrMax: number): number {
  return Math.min(wrMax, Math.max(2 * slots, 2 * (NVMET_SGL_DESCRIPTORS_MAX + 1)));
}

/** What the host asks for, or why not. */
export function checkPrivateData(
  request: Pick<ConnectionRequest, "privateData" | "responderResources">,
  depthMax: number,
): QueueRequest | RdmaRejectStatus {
  const { privateData } = request;
  if (privateData.length < RDMA_PRIVATE_BYTES) {
    return RdmaRejectStatus.INVALID_PRIVATE_DATA_LENGTH;
  }
  const values = decodeLayout(RDMA_REQUEST_PRIVATE, privateData);
  const number = (name: string): number => values[name] as number;
  if (number("RECFMT") !== 0) return RdmaRejectStatus.INVALID_RECFMT;
  const qid = number("QID");
  const depth = number("HSQSIZE") + 1;
  const max = qid === 0 ? ADMIN_QUEUE_DEPTH : depthMax;
  if (depth < 2 || depth > max) return RdmaRejectStatus.INVALID_HSQSIZE;
  // One response may be on its way for each command.
  if (number("HRQSIZE") < depth - 1) return RdmaRejectStatus.INVALID_HRQSIZE;
  const cntlid = number("CNTLID");
  if (qid === 0 ? cntlid !== 0 : cntlid > CNTLID_MAX) return RdmaRejectStatus.INVALID_CNTLID;
  // Data of writes is read from the host: it must answer at least one READ at a time.
  if (request.responderResources === 0) return RdmaRejectStatus.INVALID_IRD;
  return { qid, depth };
}
