/**
 * The RDMA transport of the host: a queue pair per NVMe queue, memory regions for data. NVMe RDMA
 * Transport Specification 1.0.
 *
 * Memory is registered once and its key used for many commands; a target invalidates it only where
 * a command asks for that. Leaves out: registration per command, in-capsule SGL lists.
 */

import {
  decodeLayout,
  encodeLayout,
  type Inspectable,
  PAGE_SIZE,
  PeerlaneError,
  type Tree,
} from "../../../core/index.ts";
import { Direction, type IoMemory, mapHostMemory } from "../../../memory/index.ts";
import type { Connection, Cq, Mr, Pd, Qp, RdmaDevice } from "../../../rdma/index.ts";
import {
  COMMAND_BYTES,
  RDMA_PRIVATE_BYTES,
  RDMA_REJECT_BYTES,
  RDMA_REJECT_NAMES,
  RDMA_REJECT_PRIVATE,
  RDMA_REQUEST_PRIVATE,
  RESPONSE_BYTES,
} from "../../../spec/nvmf/index.ts";
import { Access } from "../../../spec/rdma/index.ts";
import type {
  AdminBuffer,
  HostBuffer,
  HostChannel,
  HostQueueOptions,
  HostTransport,
} from "../../host/transport.ts";
import { RdmaHostChannel } from "./host-channel.hot.ts";

export interface RdmaHostOptions {
  readonly device: RdmaDevice;
  /** The target's address on the wire, and its port. */
  readonly address: string;
  readonly port: number;
}

/** Memory that was registered; `invalidated` by the target, or `released` by its owner. */
class RegisteredBuffer implements HostBuffer {
  readonly memory: IoMemory;
  readonly offset: number;
  readonly length: number;
  readonly address: number;
  readonly key: number;
  wasInvalidated = false;
  private readonly mr: Mr;
  private readonly forget: (key: number) => void;

  constructor(memory: IoMemory, offset: number, mr: Mr, forget: (key: number) => void) {
    this.memory = memory;
    this.offset = offset;
    this.length = mr.length;
    this.address = mr.address;
    this.key = mr.rkey;
    this.mr = mr;
    this.forget = forget;
  }

  get valid(): boolean {
    return this.mr.valid && !this.wasInvalidated;
  }

  async release(): Promise<void> {
    this.forget(this.key);
    await this.mr.deregister();
  }
}

export class RdmaHostTransport implements HostTransport, Inspectable {
  readonly name: string;
  private readonly options: RdmaHostOptions;
  private readonly buffers = new Map<number, RegisteredBuffer>();
  private pdPromise: Promise<Pd> | null = null;
  private channels = 0;

  constructor(options: RdmaHostOptions) {
    this.options = options;
    this.name = `rdma ${options.address}:${options.port}`;
  }

  private get device(): RdmaDevice {
    return this.options.device;
  }

  /** One protection domain for all queues and memory. */
  private pd(): Promise<Pd> {
    this.pdPromise ??= this.device.allocPd();
    return this.pdPromise;
  }

  async register(memory: IoMemory, offset: number, length: number): Promise<HostBuffer> {
    const pd = await this.pd();
    const access = Access.localWrite | Access.remoteRead | Access.remoteWrite;
    const mr = await pd.registerMemory(memory, offset, length, access);
    const buffer = new RegisteredBuffer(memory, offset, mr, (key) => this.buffers.delete(key));
    this.buffers.set(mr.rkey, buffer);
    return buffer;
  }

  async connect(options: HostQueueOptions): Promise<HostChannel> {
    const { depth } = options;
    const { dma } = this.device;
    const pd = await this.pd();
    const inCapsuleBytes = options.qid === 0 ? 0 : options.inCapsuleBytes;
    const stride = COMMAND_BYTES + inCapsuleBytes;
    const bytes = depth * (stride + RESPONSE_BYTES);
    const region = dma.fn.machine.allocateHost(bytes, PAGE_SIZE, "capsules");
    const memory = mapHostMemory(region, [dma]);
    let cq: Cq | null = null;
    let qp: Qp | null = null;
    let connection: Connection | null = null;
    const free = async (): Promise<void> => {
      await connection?.disconnect();
      await qp?.destroy();
      await cq?.destroy();
      memory.close();
      dma.fn.machine.freeHost(region);
    };
    try {
      cq = await this.device.createCq(4 * depth);
      qp = await this.device.createQp(pd, {
        sendCq: cq,
        recvCq: cq,
        maxSend: 2 * depth,
        maxRecv: depth,
        maxSge: 1,
      });
      let closing: Promise<void> | null = null;
      const channel = new RdmaHostChannel({
        qp,
        cq,
        lkey: pd.localDmaLkey,
        bytes: region.bytes,
        base: memory.map(dma.id, 0, region.bytes.length, Direction.both),
        depth,
        capsuleStride: stride,
        inCapsuleBytes,
        invalidated: (rkey) => this.invalidated(rkey),
        closing: () => (closing ??= free()),
      });
      channel.postAll();
      connection = await this.dial(qp, options);
      connection.onDisconnect = () => {
        channel.ended ??= "the target disconnected";
      };
      this.channels++;
      return channel;
    } catch (error) {
      await free();
      throw error;
    }
  }

  private async dial(qp: Qp, options: HostQueueOptions): Promise<Connection> {
    const privateData = new Uint8Array(RDMA_PRIVATE_BYTES);
    const values = {
      QID: options.qid,
      HRQSIZE: options.depth,
      HSQSIZE: options.depth - 1,
      CNTLID: options.cntlid,
    };
    encodeLayout(RDMA_REQUEST_PRIVATE, values, privateData);
    const { address, port } = this.options;
    try {
      return await this.device.cm.connect({ qp, address, port, privateData });
    } catch (error) {
      throw this.explain(error);
    }
  }

  /** A reject of the NVMe transport has its reason in the private data. */
  private explain(error: unknown): unknown {
    if (!(error instanceof PeerlaneError) || error.code !== "cm-rejected") return error;
    const data = error.details["privateData"];
    if (!(data instanceof Uint8Array) || data.length < RDMA_REJECT_BYTES) return error;
    const status = decodeLayout(RDMA_REJECT_PRIVATE, data)["STS"] as number;
    const name = RDMA_REJECT_NAMES[status] ?? `status ${status}`;
    return new PeerlaneError("nvmf-rdma-rejected", `the target refused the queue: ${name}`, {
      place: this.name,
      details: { status },
      cause: error,
    });
  }

  private invalidated(rkey: number): void {
    const buffer = this.buffers.get(rkey);
    if (buffer !== undefined) buffer.wasInvalidated = true;
  }

  async allocate(sizeBytes: number): Promise<AdminBuffer> {
    const { dma } = this.device;
    const region = dma.fn.machine.allocateHost(sizeBytes, PAGE_SIZE, "control");
    const memory = mapHostMemory(region, [dma]);
    const buffer = await this.register(memory, 0, sizeBytes);
    return {
      buffer,
      bytes: region.bytes,
      free: async () => {
        await buffer.release();
        memory.close();
        dma.fn.machine.freeHost(region);
      },
    };
  }

  poll(): number {
    return this.device.poll();
  }

  inspect(): Tree {
    return { name: this.name, buffers: this.buffers.size, channelsMade: this.channels };
  }
}
