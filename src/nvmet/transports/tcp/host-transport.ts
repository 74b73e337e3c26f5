/**
 * The TCP transport of the host: a connection per NVMe queue, ICReq and ICResp, memory that the CPU
 * copies from and to. NVM Express TCP Transport Specification 1.0.
 *
 * A "registration" is only a number here: keys find memory for the channel and never leave this
 * process.
 *
 * Leaves out: reconnecting (host/path.ts).
 */

import {
  Copier,
  encodeLayout,
  type Inspectable,
  PeerlaneError,
  physAddr,
  type Tree,
} from "../../../core/index.ts";
import { cpuMemory, type IoMemory } from "../../../memory/index.ts";
import { formatAddress, type Network, type TlsClient } from "../../../platform/index.ts";
import {
  TCP_ADMIN_IN_CAPSULE_BYTES,
  TCP_H2C_TERM_REQ,
  TCP_HLEN,
  TCP_ICREQ,
  TcpDigest,
  TcpPdu,
} from "../../../spec/nvmf/index.ts";
import type {
  AdminBuffer,
  HostBuffer,
  HostChannel,
  HostQueueOptions,
  HostTransport,
} from "../../host/transport.ts";
import { TcpHostChannel, type TcpHostOwner } from "./host-channel.hot.ts";
import { PduWriter } from "./pdu-writer.hot.ts";

export interface TcpHostOptions {
  readonly network: Network;
  /** The target's address, and its port. */
  readonly address: string;
  readonly port: number;
  /** Ask for digests. Default false. */
  readonly headerDigest?: boolean;
  readonly dataDigest?: boolean;
  /** Alignment to ask of the target, HPDA: dwords, 0's based. Default 0. */
  readonly hpda?: number;
  /** TLS 1.3 with this key; its identity names this host and the subsystem. */
  readonly tls?: TlsClient;
  /** Something arrived: poll. */
  readonly wake?: () => void;
}

/** A connection on its way to ICResp. */
interface Handshake {
  readonly channel: TcpHostChannel;
  readonly settle: (error: PeerlaneError | null) => void;
}

const NO_OP = (): void => undefined;

export class TcpHostTransport implements HostTransport, TcpHostOwner, Inspectable {
  readonly name: string;
  private readonly options: TcpHostOptions;
  /** By key; 0 is never given out. */
  private readonly memories: (IoMemory | null)[] = [null];
  private readonly freeKeys: number[] = [];
  private readonly copier = new Copier();
  private readonly handshakes = new Set<Handshake>();
  private channels = 0;

  constructor(options: TcpHostOptions) {
    this.options = options;
    this.name = `tcp ${formatAddress(options.address, options.port)}`;
  }

  /** Throws `memory-not-cpu` when the CPU cannot reach the memory. */
  async register(memory: IoMemory, offset: number, length: number): Promise<HostBuffer> {
    if (!memory.cpuAccessible) {
      throw new PeerlaneError("memory-not-cpu", "over TCP the CPU moves the data", {
        place: this.name,
        remedy: "use host memory, or RDMA",
      });
    }
    const key = this.freeKeys.pop() ?? this.memories.length;
    const { memories, freeKeys } = this;
    memories[key] = memory;
    return {
      memory,
      offset,
      length,
      address: offset,
      key,
      get valid() {
        return memories[key] === memory;
      },
      release: async () => {
        if (memories[key] !== memory) return;
        memories[key] = null;
        freeKeys.push(key);
      },
    };
  }

  find(key: number): IoMemory | null {
    return key < this.memories.length ? this.memories[key] : null;
  }

  /** Throws `connect-failed`, `tls-failed`, `nvme-tcp-refused`. */
  async connect(options: HostQueueOptions): Promise<HostChannel> {
    const { network, address, port, hpda = 0 } = this.options;
    const stream = await network.connect({ address, port }, this.options.tls);
    const channel = new TcpHostChannel({
      owner: this,
      stream,
      writer: new PduWriter(stream, this.copier, () => this.wake()),
      depth: options.depth,
      inCapsuleBytes: options.inCapsuleBytes,
      adminInCapsuleBytes: TCP_ADMIN_IN_CAPSULE_BYTES,
      isAdmin: options.qid === 0,
      hpda,
    });
    stream.start(channel);
    stream.write(this.icReq());
    await new Promise<void>((resolve, reject) => {
      const settle = (error: PeerlaneError | null): void => {
        if (error === null) resolve();
        else reject(error);
      };
      this.handshakes.add({ channel, settle });
    });
    this.channels++;
    return channel;
  }

  private get askedDigests(): number {
    const { headerDigest = false, dataDigest = false } = this.options;
    return (headerDigest ? TcpDigest.header : 0) | (dataDigest ? TcpDigest.data : 0);
  }

  private icReq(): Uint8Array {
    const bytes = new Uint8Array(TCP_HLEN[TcpPdu.ICREQ]);
    const lengths = { HLEN: bytes.length, PLEN: bytes.length };
    const { hpda = 0 } = this.options;
    const values = { "PDU-Type": TcpPdu.ICREQ, ...lengths, HPDA: hpda, DGST: this.askedDigests };
    encodeLayout(TCP_ICREQ, values, bytes);
    return bytes;
  }

  ready(channel: TcpHostChannel): void {
    const { reader, writer, digests } = channel;
    reader.headerDigest = (digests & TcpDigest.header) !== 0;
    reader.dataDigest = (digests & TcpDigest.data) !== 0;
    writer.headerDigest = reader.headerDigest;
    writer.dataDigest = reader.dataDigest;
  }

  terminate(channel: TcpHostChannel): void {
    const { fes, fei, header, headerBytes } = channel.reader;
    const hlen = TCP_HLEN[TcpPdu.H2C_TERM_REQ];
    const bytes = new Uint8Array(hlen + headerBytes);
    const lengths = { HLEN: hlen, PLEN: bytes.length };
    const values = { "PDU-Type": TcpPdu.H2C_TERM_REQ, ...lengths, FES: fes, FEI: fei };
    encodeLayout(TCP_H2C_TERM_REQ, values, bytes);
    bytes.set(header.subarray(0, headerBytes), hlen);
    channel.stream.write(bytes);
  }

  wake(): void {
    (this.options.wake ?? NO_OP)();
  }

  async allocate(sizeBytes: number): Promise<AdminBuffer> {
    const bytes = new Uint8Array(sizeBytes);
    // No device ever sees it, so where it lies is nobody's business.
    const buffer = await this.register(cpuMemory({ phys: physAddr(0), bytes }), 0, sizeBytes);
    return { buffer, bytes, free: () => buffer.release() };
  }

  /** Gives up connections that wait for ICResp. */
  abandon(): void {
    for (const { channel } of this.handshakes) void channel.close();
  }

  /** Takes connections through ICResp. */
  poll(): number {
    let done = 0;
    for (const handshake of this.handshakes) {
      const { channel } = handshake;
      if (!channel.isReady && channel.ended === null) continue;
      done++;
      this.handshakes.delete(handshake);
      handshake.settle(this.verdict(channel));
    }
    return done;
  }

  private verdict(channel: TcpHostChannel): PeerlaneError | null {
    if (channel.ended !== null) {
      return new PeerlaneError("nvme-tcp-refused", `no connection: ${channel.ended}`, {
        place: this.name,
        remedy: "see the target's log: the port may require TLS, or be something else's",
      });
    }
    const missing = this.askedDigests & ~channel.digests;
    if (missing === 0) return null;
    void channel.close();
    return new PeerlaneError("nvme-tcp-refused", "the target does not do the digests asked for", {
      place: this.name,
      remedy: "connect without them",
      details: { missing },
    });
  }

  inspect(): Tree {
    const buffers = this.memories.filter((memory) => memory !== null).length;
    return { name: this.name, buffers, channelsMade: this.channels };
  }
}
