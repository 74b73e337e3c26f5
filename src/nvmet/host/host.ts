/**
 * The NVMe-oF host: connects to a subsystem, finds its namespaces, gives I/O queues. NVM Express
 * Base Specification 2.0, sections 3.5 and 6.
 *
 * Everything is polled: `connect` and the other promises settle from inside {@link NvmfHost.poll},
 * so run it in a reactor while waiting. I/O goes through {@link HostQueue} with preallocated
 * commands.
 *
 * Leaves out: reconnecting and multipath, which are layers above (path.ts, multipath.ts).
 */

import {
  type Inspectable,
  NS_PER_MS,
  PeerlaneError,
  type Poller,
  type Tree,
  viewOf,
} from "../../core/index.ts";
import type { IoMemory } from "../../memory/index.ts";
import {
  ABORT_CID,
  ABORT_SQID,
  AdminOpcode,
  CAP_MQES,
  CC_EN,
  CC_IOCQES,
  CC_IOSQES,
  CC_SHN,
  CMIC_ANA,
  Cns,
  ControllerType,
  CQE_SHIFT,
  CSTS_RDY,
  Feature,
  flbasIndex,
  getLbaFormat,
  IDENTIFY_BYTES,
  IdCtrl,
  IdNs,
  LBAF_LBADS,
  packLogCdw10,
  packLogCdw11,
  QUEUES_NCQ,
  QUEUES_NSQ,
  Reg,
  Shn,
  SQE_SHIFT,
} from "../../spec/nvme/index.ts";
import {
  CAPSULE_UNIT_BYTES,
  CNTLID_DYNAMIC,
  COMMAND_BYTES,
  DISCOVERY_ENTRY_BYTES,
  DISCOVERY_HEADER_BYTES,
  DISCOVERY_LOG_ID,
  DISCOVERY_NQN,
  type DiscoveryEntry,
  decodeDiscoveryEntry,
  decodeDiscoveryHeader,
} from "../../spec/nvmf/index.ts";
import { authenticateQueue, type HostCredentials } from "../auth/initiator.ts";
import {
  type AdminRequest,
  adminCommand,
  type CommandResult,
  connectCommand,
  propertyGet,
  propertySet,
} from "./admin.ts";
import { type CommandOwner, HostCommand, HostQueue, SubmitStatus } from "./queue.hot.ts";
import type { AdminBuffer, HostBuffer, HostTransport } from "./transport.ts";

export interface HostOptions {
  readonly transport: HostTransport;
  readonly hostNqn: string;
  /** 16 bytes. Default: zeros but for the last, 1. */
  readonly hostId?: Uint8Array;
  readonly subsystemNqn: string;
  /** I/O queues. Default 1. */
  readonly queues?: number;
  /** Entries of each. Default 128, at most what the controller has. */
  readonly depth?: number;
  /** 0 (the default): no keep-alive timer. */
  readonly keepAliveMs?: number;
  /** Data bytes to send in capsules, at most what the controller takes. Default 0. */
  readonly inCapsuleBytes?: number;
  readonly disableSqFlowControl?: boolean;
  /** Authenticates every queue when the controller asks, or there is a key of the controller. */
  readonly credentials?: HostCredentials;
  /** Monotonic nanoseconds. */
  readonly nowNs: () => number;
}

/** A namespace as the host sees it. */
export interface HostNamespace {
  readonly nsid: number;
  readonly blocks: number;
  readonly blockBytes: number;
}

/** What Identify Controller told. */
export interface HostControllerInfo {
  readonly serial: string;
  readonly model: string;
  readonly transferMax: number;
  readonly inCapsuleBytes: number;
  readonly sglDescriptorsMax: number;
  readonly oncs: number;
  /** It has a discovery log, and no I/O queues. */
  readonly isDiscovery: boolean;
  /** Granularity of its Keep Alive Timer (KAS); 0: not told. */
  readonly keepAliveUnitMs: number;
  /** It reports ANA states. */
  readonly hasAna: boolean;
}

const ADMIN_DEPTH = 32;
const ADMIN_BUFFER_BYTES = 64 * 1024;
/** Unit of KAS. */
const KAS_MS = 100;
/** Entries that the discovery log may have: more than fit the admin buffer are read in parts. */
const DISCOVERY_RECORDS_MAX = 65_536;
const DISCOVERY_READS_MAX = 3;

export class NvmfHost implements Poller, Inspectable, CommandOwner {
  readonly options: HostOptions;
  readonly queues: HostQueue[] = [];
  readonly namespaces: HostNamespace[] = [];
  cntlid = CNTLID_DYNAMIC;
  /** Called with dword 0 of each asynchronous event. */
  onEvent: ((event: number) => void) | null = null;
  private info_: HostControllerInfo | null = null;
  private adminQueue: HostQueue | null = null;
  private buffer: AdminBuffer | null = null;
  private state: "new" | "connecting" | "live" | "ended" = "new";
  private readonly keepAlive = new HostCommand(this);
  private keepAliveSentNs = 0;
  private readonly eventRequest = new HostCommand(this);
  private readonly abort = new HostCommand(this);
  private nextKeepAliveNs = 0;
  private adminTurn: Promise<unknown> = Promise.resolve();

  constructor(options: HostOptions) {
    this.options = options;
    this.keepAlive.opcode = AdminOpcode.keepAlive;
    this.eventRequest.opcode = AdminOpcode.asyncEventRequest;
    this.abort.opcode = AdminOpcode.abort;
  }

  get info(): HostControllerInfo {
    if (this.info_ !== null) return this.info_;
    throw this.notConnected();
  }

  private notConnected(): PeerlaneError {
    return new PeerlaneError("host-not-connected", "the host is not connected", {
      place: this.options.transport.name,
      remedy: "await connect() first",
    });
  }

  /**
   * Connects the Admin Queue, enables the controller, identifies, connects the I/O queues. Throws
   * what the transport throws, `connect-refused`, `nvme-command-failed`, or `nvmf-not-ready`; then
   * all connections are closed.
   */
  async connect(): Promise<void> {
    this.state = "connecting";
    try {
      await this.connectAll();
      this.state = "live";
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  private async connectAll(): Promise<void> {
    const { transport, keepAliveMs = 0, nowNs } = this.options;
    this.buffer = await transport.allocate(ADMIN_BUFFER_BYTES);
    const queue = await this.openQueue(0, ADMIN_DEPTH, 0);
    this.adminQueue = queue;
    this.cntlid = await this.connectQueue(queue, CNTLID_DYNAMIC);
    const cap = await propertyGet(queue, Reg.capLo, true);
    const cc = CC_IOCQES.set(CC_IOSQES.set(CC_EN.set(0, 1), SQE_SHIFT), CQE_SHIFT);
    await propertySet(queue, Reg.cc, cc);
    const csts = await propertyGet(queue, Reg.csts);
    if (CSTS_RDY.get(csts.result0) === 0) {
      throw new PeerlaneError("nvmf-not-ready", "the controller did not become ready", {
        place: transport.name,
        remedy: "look at the target's controller (inspect)",
        details: { csts: csts.result0 },
      });
    }
    this.info_ = await this.identifyController();
    this.nextKeepAliveNs = nowNs() + (keepAliveMs * NS_PER_MS) / 2;
    // Its name may be one of its own, so the controller says what it is.
    if (this.info.isDiscovery) return;
    await this.connectIoQueues(CAP_MQES.get(cap.result0) + 1);
    await this.identifyNamespaces();
  }

  private async openQueue(qid: number, depth: number, inCapsuleBytes: number): Promise<HostQueue> {
    const cntlid = qid === 0 ? 0 : this.cntlid;
    const channel = await this.options.transport.connect({ qid, depth, cntlid, inCapsuleBytes });
    return new HostQueue(qid, depth, channel);
  }

  private async connectQueue(queue: HostQueue, cntlid: number): Promise<number> {
    const { hostNqn, subsystemNqn, keepAliveMs = 0, disableSqFlowControl = false } = this.options;
    const hostId = this.options.hostId ?? defaultHostId();
    const connected = await this.inTurn((buffer) =>
      connectCommand(queue, buffer, {
        qid: queue.qid,
        depth: queue.depth,
        keepAliveMs: queue.qid === 0 ? keepAliveMs : 0,
        disableSqFlowControl,
        data: { hostId, cntlid, subsystemNqn, hostNqn },
      }),
    );
    const { credentials } = this.options;
    // With a key of the controller this host asks, too: a false target would not.
    const asks = credentials?.ctrlKey !== undefined && subsystemNqn !== DISCOVERY_NQN;
    if (connected.mustAuthenticate || asks) await this.authenticate(queue);
    return connected.cntlid;
  }

  /** Authenticates a queue, the first time or again. Throws `authentication-failed`. */
  async authenticate(queue = this.adminQueue): Promise<void> {
    const { credentials, hostNqn, subsystemNqn } = this.options;
    if (queue === null) throw this.notConnected();
    if (credentials === undefined) {
      throw new PeerlaneError(
        "authentication-required",
        "the target wants this host to authenticate, and there is no key to do it with",
        { place: this.options.transport.name, remedy: "give the host's DH-HMAC-CHAP key" },
      );
    }
    const parties = { hostNqn, subsystemNqn };
    await this.inTurn((buffer) => authenticateQueue(queue, buffer, credentials, parties));
  }

  private async connectIoQueues(depthMax: number): Promise<void> {
    const wanted = this.options.queues ?? 1;
    const ask = QUEUES_NCQ.set(QUEUES_NSQ.set(0, wanted - 1), wanted - 1);
    const { result0 } = await this.admin({
      opcode: AdminOpcode.setFeatures,
      dwords: [Feature.numberOfQueues, ask],
    });
    const granted = Math.min(wanted, QUEUES_NSQ.get(result0) + 1, QUEUES_NCQ.get(result0) + 1);
    const depth = Math.min(this.options.depth ?? 128, depthMax);
    const inCapsuleBytes = Math.min(this.options.inCapsuleBytes ?? 0, this.info.inCapsuleBytes);
    for (let qid = 1; qid <= granted; qid++) {
      const queue = await this.openQueue(qid, depth, inCapsuleBytes);
      this.queues.push(queue);
      await this.connectQueue(queue, this.cntlid);
    }
  }

  private async identifyController(): Promise<HostControllerInfo> {
    const { data } = await this.admin({
      opcode: AdminOpcode.identify,
      dwords: [Cns.controller],
      dataBytes: IDENTIFY_BYTES,
    });
    const view = viewOf(data);
    const mdts = IdCtrl.MDTS.get(view);
    return {
      serial: IdCtrl.SN.get(view),
      model: IdCtrl.MN.get(view),
      transferMax: mdts === 0 ? Number.MAX_SAFE_INTEGER : 4096 * 2 ** mdts,
      inCapsuleBytes: IdCtrl.IOCCSZ.get(view) * CAPSULE_UNIT_BYTES - COMMAND_BYTES,
      sglDescriptorsMax: IdCtrl.MSDBD.get(view),
      oncs: IdCtrl.ONCS.get(view),
      keepAliveUnitMs: IdCtrl.KAS.get(view) * KAS_MS,
      hasAna: (IdCtrl.CMIC.get(view) & CMIC_ANA) !== 0,
      isDiscovery: IdCtrl.CNTRLTYPE.get(view) === ControllerType.discovery,
    };
  }

  /** Reads the list of namespaces and each one's size again. */
  async identifyNamespaces(): Promise<void> {
    this.namespaces.length = 0;
    const list = await this.identify(Cns.activeNamespaces, 0);
    const view = viewOf(list);
    for (let at = 0; at < list.length && view.getUint32(at, true) !== 0; at += 4) {
      const nsid = view.getUint32(at, true);
      const namespace = viewOf(await this.identify(Cns.namespace, nsid));
      const format = getLbaFormat(namespace, flbasIndex(IdNs.FLBAS.get(namespace)));
      const blockBytes = 2 ** LBAF_LBADS.get(format);
      this.namespaces.push({ nsid, blocks: IdNs.NSZE.get(namespace), blockBytes });
    }
  }

  /** Identify data. */
  async identify(cns: number, nsid: number): Promise<Uint8Array> {
    const request = { opcode: AdminOpcode.identify, nsid, dwords: [cns] };
    return (await this.admin({ ...request, dataBytes: IDENTIFY_BYTES })).data;
  }

  /** An admin command; `data` is a copy of what the target returned. */
  async admin(request: AdminRequest): Promise<CommandResult & { readonly data: Uint8Array }> {
    const queue = this.adminQueue;
    if (queue === null) throw this.notConnected();
    return this.inTurn(async (buffer) => {
      const { result0, result1 } = await adminCommand(queue, buffer, request);
      return { result0, result1, data: buffer.bytes.slice(0, request.dataBytes ?? 0) };
    });
  }

  /** A log page, `length` bytes (a multiple of 4) from `offset`. */
  async logPage(lid: number, length: number, offset = 0, nsid = 0): Promise<Uint8Array> {
    const dwords = [packLogCdw10(lid, length), packLogCdw11(length), offset, 0];
    const request = { opcode: AdminOpcode.getLogPage, nsid, dwords, dataBytes: length };
    return (await this.admin(request)).data;
  }

  /** The discovery log, read again when it changed meanwhile. Throws `discovery-unstable`. */
  async discoveryLog(): Promise<DiscoveryEntry[]> {
    for (let i = 0; i < DISCOVERY_READS_MAX; i++) {
      const header = await this.discoveryHeader();
      const entries: DiscoveryEntry[] = [];
      const count = Math.min(header.records, DISCOVERY_RECORDS_MAX);
      for (let n = 0; n < count; n++) {
        const at = DISCOVERY_HEADER_BYTES + n * DISCOVERY_ENTRY_BYTES;
        const bytes = await this.logPage(DISCOVERY_LOG_ID, DISCOVERY_ENTRY_BYTES, at);
        entries.push(decodeDiscoveryEntry(bytes));
      }
      if ((await this.discoveryHeader()).generation === header.generation) return entries;
    }
    throw new PeerlaneError(
      "discovery-unstable",
      "the discovery log changes faster than it reads",
      {
        place: this.options.transport.name,
        remedy: "try again",
      },
    );
  }

  private async discoveryHeader(): Promise<{ generation: number; records: number }> {
    return decodeDiscoveryHeader(await this.logPage(DISCOVERY_LOG_ID, DISCOVERY_HEADER_BYTES));
  }

  /** The admin buffer serves one command at a time. */
  private inTurn<T>(run: (buffer: AdminBuffer) => Promise<T>): Promise<T> {
    const turn = this.adminTurn.then(() => {
      if (this.buffer === null) throw this.notConnected();
      return run(this.buffer);
    });
    this.adminTurn = turn.catch(() => undefined);
    return turn;
  }

  /** Memory that I/O may use. */
  register(memory: IoMemory, offset: number, length: number): Promise<HostBuffer> {
    return this.options.transport.register(memory, offset, length);
  }

  /** Asks for asynchronous events in `mask` (feature 0Bh) and reports them to {@link onEvent}. */
  async enableEvents(mask: number): Promise<void> {
    const dwords = [Feature.asyncEventConfiguration, mask];
    await this.admin({ opcode: AdminOpcode.setFeatures, dwords });
    this.requestEvent();
  }

  private requestEvent(): void {
    const queue = this.adminQueue;
    if (queue === null || this.eventRequest.isBusy) return;
    if (queue.submit(this.eventRequest) === SubmitStatus.ok) queue.kick();
  }

  commandDone(command: HostCommand): void {
    if (command !== this.eventRequest || command.status !== 0) return;
    this.onEvent?.(command.result0);
    this.requestEvent();
  }

  /** Why it is not usable any more; null while it is. */
  get ended(): string | null {
    return this.adminQueue?.channel.ended ?? (this.state === "ended" ? "disconnected" : null);
  }

  /** Ends it at once, whatever it is at; keep polling until {@link inFlight} is 0. */
  abandon(): void {
    this.options.transport.abandon?.();
    void this.close();
  }

  /** Commands that wait for an answer, on all queues. */
  get inFlight(): number {
    return this.queues.reduce((sum, queue) => sum + queue.inFlight, this.adminQueue?.inFlight ?? 0);
  }

  /** A Keep Alive command has waited for its answer for a whole Keep Alive Timeout. */
  get isSilent(): boolean {
    const { keepAliveMs = 0, nowNs } = this.options;
    return this.keepAlive.isBusy && nowNs() - this.keepAliveSentNs > keepAliveMs * NS_PER_MS;
  }

  /** Asks to abort a command of an I/O queue, when no other Abort is under way. */
  abortCommand(qid: number, cid: number): void {
    const queue = this.adminQueue;
    if (queue === null || this.abort.isBusy || cid < 0) return;
    this.abort.dwords[0] = ABORT_CID.set(ABORT_SQID.set(0, qid), cid);
    if (queue.submit(this.abort) === SubmitStatus.ok) queue.kick();
  }

  poll(): number {
    let done = this.options.transport.poll();
    if (this.adminQueue !== null) done += this.adminQueue.poll();
    for (let i = 0; i < this.queues.length; i++) done += this.queues[i].poll();
    if (this.state === "live" && (this.options.keepAliveMs ?? 0) > 0) this.sendKeepAlive();
    return done;
  }

  private sendKeepAlive(): void {
    const now = this.options.nowNs();
    const queue = this.adminQueue;
    if (now < this.nextKeepAliveNs || queue === null || this.keepAlive.isBusy) return;
    this.nextKeepAliveNs = now + ((this.options.keepAliveMs ?? 0) * NS_PER_MS) / 2;
    if (queue.submit(this.keepAlive) !== SubmitStatus.ok) return;
    this.keepAliveSentNs = now;
    queue.kick();
  }

  /** Shuts the controller down and closes all connections. */
  async disconnect(): Promise<void> {
    const queue = this.adminQueue;
    if (this.state === "live" && queue !== null && queue.channel.ended === null) {
      await Promise.all(this.queues.map(({ channel }) => channel.close()));
      const cc = CC_IOCQES.set(CC_IOSQES.set(CC_EN.set(0, 1), SQE_SHIFT), CQE_SHIFT);
      await propertySet(queue, Reg.cc, CC_SHN.set(cc, Shn.normal));
    }
    await this.close();
  }

  private async close(): Promise<void> {
    this.state = "ended";
    const queues = this.adminQueue === null ? this.queues : [...this.queues, this.adminQueue];
    await Promise.all(queues.map(({ channel }) => channel.close()));
    const { buffer } = this;
    this.buffer = null;
    await buffer?.free();
  }

  inspect(): Tree {
    const { transport, subsystemNqn, hostNqn } = this.options;
    return {
      transport: transport.name,
      subsystem: subsystemNqn,
      host: hostNqn,
      state: this.state,
      ended: this.ended,
      cntlid: this.cntlid,
      namespaces: this.namespaces.map(({ nsid, blocks, blockBytes }) => ({
        nsid,
        blocks,
        blockBytes,
      })),
      queues: this.queues.map((queue) => ({
        qid: queue.qid,
        depth: queue.depth,
        inFlight: queue.inFlight,
        submitted: queue.submitted,
        completed: queue.completed,
        failed: queue.failed,
      })),
    };
  }
}

function defaultHostId(): Uint8Array {
  const id = new Uint8Array(16);
  id[15] = 1;
  return id;
}
