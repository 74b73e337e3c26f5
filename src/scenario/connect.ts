/**
 * A remote subsystem on real sockets: what `peerlane connect` does with it. Any NVMe/TCP target
 * will do, another Peerlane or Linux' nvmet.
 *
 * Leaves out: a block device for other programs; this process alone uses the namespaces.
 */

import { assert, PeerlaneError, Prng, physAddr, type Tree } from "../core/index.ts";
import { cpuMemory } from "../memory/index.ts";
import {
  deriveTlsPsk,
  type HostCredentials,
  type HostNamespace,
  MultipathHost,
  NvmfHost,
  PathIo,
  type Secret,
  TcpHostTransport,
} from "../nvmet/index.ts";
import { type Clock, type Network, PollLoop } from "../platform/index.ts";
import { formatStatus, NvmOpcode } from "../spec/nvme/index.ts";
import { DISCOVERY_NQN, type DiscoveryEntry } from "../spec/nvmf/index.ts";
import { type BenchResult, ReadLoad } from "./read-load.ts";

export interface RemoteOptions {
  /** One per path, to the same subsystem. */
  readonly addresses: readonly { readonly address: string; readonly port: number }[];
  readonly subsystemNqn: string;
  readonly hostNqn: string;
  readonly hostId?: Uint8Array;
  readonly network: Network;
  readonly clock: Clock;
  readonly tlsKey?: Secret;
  /** Version of the TLS PSK identity. Default 1. */
  readonly tlsIdentity?: 0 | 1;
  readonly credentials?: HostCredentials;
  readonly headerDigest?: boolean;
  readonly dataDigest?: boolean;
  readonly queues?: number;
  readonly depth?: number;
}

export interface BenchOptions {
  readonly nsid: number;
  readonly blockSize: number;
  readonly depth: number;
  readonly seconds: number;
  readonly seed: number;
}

const KEEP_ALIVE_MS = 5000;
const RECONNECT_MS = 1000;
/** Bytes of one command. */
const PIECE_BYTES_MAX = 1 << 20;
function transportsOf(options: RemoteOptions, wake: () => void): TcpHostTransport[] {
  const { network, headerDigest = false, dataDigest = false, tlsKey } = options;
  const { hostNqn, subsystemNqn, tlsIdentity = 1 } = options;
  const tls =
    tlsKey === undefined ? {} : { tls: deriveTlsPsk(tlsKey, hostNqn, subsystemNqn, tlsIdentity) };
  return options.addresses.map(
    (at) => new TcpHostTransport({ network, ...at, headerDigest, dataDigest, wake, ...tls }),
  );
}

export class RemoteSubsystem {
  private readonly loop: PollLoop;
  private readonly host: MultipathHost;
  private readonly clock: Clock;

  private constructor(loop: PollLoop, host: MultipathHost, clock: Clock) {
    this.loop = loop;
    this.host = host;
    this.clock = clock;
  }

  /**
   * Connects, with an error at once when the target refuses; afterwards paths that are lost are
   * connected again. Throws what connecting throws.
   */
  static async open(options: RemoteOptions): Promise<RemoteSubsystem> {
    const { clock } = options;
    await probe(options);
    let host: MultipathHost | null = null;
    const loop = new PollLoop({
      poll: () => host?.poll() ?? 0,
      onError: (error) => {
        throw error;
      },
    });
    host = new MultipathHost({
      ...hostOptions(options),
      transports: transportsOf(options, () => loop.wake()),
      queues: options.queues ?? 1,
      depth: options.depth ?? 128,
      keepAliveMs: KEEP_ALIVE_MS,
      reconnectDelayMs: RECONNECT_MS,
      disableSqFlowControl: true,
    });
    loop.start();
    await host.connect();
    return new RemoteSubsystem(loop, host, clock);
  }

  get namespaces(): readonly HostNamespace[] {
    return this.host.namespaces;
  }

  /** What Identify told, and the paths. */
  info(): Tree {
    const controller = this.host.live?.info;
    return {
      model: controller?.model ?? null,
      serial: controller?.serial ?? null,
      namespaces: this.namespaces.map(({ nsid, blocks, blockBytes }) => ({
        nsid,
        blocks,
        blockBytes,
        sizeBytes: blocks * blockBytes,
      })),
      ...(this.host.inspect() as object),
    };
  }

  private namespaceOf(nsid: number): HostNamespace {
    const found = this.namespaces.find((namespace) => namespace.nsid === nsid);
    if (found !== undefined) return found;
    throw new PeerlaneError("no-namespace", `the subsystem has no namespace ${nsid}`, {
      remedy: `choose one of ${this.namespaces.map((each) => each.nsid).join(", ") || "none"}`,
    });
  }

  /** Reads bytes. Throws `nvme-command-failed`, `no-namespace`. */
  async read(nsid: number, lba: number, blocks: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(blocks * this.namespaceOf(nsid).blockBytes);
    await this.move(NvmOpcode.read, nsid, lba, bytes);
    return bytes;
  }

  /**
   * Writes what a seed makes, flushes, reads it back. What was in these blocks is gone. Returns the
   * first byte that came back different; -1: none did. Throws as {@link read}.
   */
  async verify(nsid: number, lba: number, blocks: number, seed: number): Promise<number> {
    const bytes = new Uint8Array(blocks * this.namespaceOf(nsid).blockBytes);
    new Prng(seed).fill(bytes);
    await this.move(NvmOpcode.write, nsid, lba, bytes);
    const flush = await this.one((made) => {
      made.opcode = NvmOpcode.flush;
      made.nsid = nsid;
    });
    checkStatus(flush.status, "flush", `namespace ${nsid}`);
    const back = await this.read(nsid, lba, blocks);
    return back.findIndex((byte, at) => byte !== bytes[at]);
  }

  /** Reads into or writes from `bytes`, in pieces that the controller takes. */
  private async move(opcode: number, nsid: number, lba: number, bytes: Uint8Array): Promise<void> {
    const { blockBytes } = this.namespaceOf(nsid);
    const blocks = bytes.length / blockBytes;
    const memory = cpuMemory({ phys: physAddr(0), bytes });
    const buffer = await this.host.register(memory, 0, bytes.length);
    const limit = this.host.live?.info.transferMax ?? blockBytes;
    const step = Math.max(1, Math.floor(Math.min(limit, PIECE_BYTES_MAX) / blockBytes));
    for (let done = 0; done < blocks; done += step) {
      const count = Math.min(step, blocks - done);
      const { status } = await this.one((made) => {
        made.opcode = opcode;
        made.nsid = nsid;
        made.setRange(lba + done, count, false);
        made.buffers = buffer.buffers;
        made.bufferOffset = done * blockBytes;
        made.dataBytes = count * blockBytes;
      });
      const what = opcode === NvmOpcode.read ? "read" : "write";
      checkStatus(status, what, `namespace ${nsid}, block ${lba + done}`);
    }
    await buffer.release();
  }

  private one(fill: (io: PathIo) => void): Promise<PathIo> {
    return new Promise((resolve) => {
      const io = new PathIo({ ioDone: resolve });
      fill(io);
      this.host.submit(io);
      this.loop.wake();
    });
  }

  /** Random reads at a constant depth for some time. Reads only: it changes nothing. */
  async bench(options: BenchOptions): Promise<BenchResult> {
    const { nsid, blockSize, depth, seconds, seed } = options;
    const { blocks, blockBytes } = this.namespaceOf(nsid);
    const perIo = blockSize / blockBytes;
    if (!Number.isInteger(perIo) || perIo < 1 || perIo > blocks) {
      throw new PeerlaneError("bad-block-size", `${blockSize} bytes are no whole blocks`, {
        place: `namespace ${nsid}`,
        remedy: `use a multiple of ${blockBytes}`,
      });
    }
    const bytes = new Uint8Array(depth * blockSize);
    const buffer = await this.host.register(
      cpuMemory({ phys: physAddr(0), bytes }),
      0,
      bytes.length,
    );
    const load = new ReadLoad(this.host, this.clock, { places: Math.floor(blocks / perIo), perIo });
    const prng = new Prng(seed);
    await load.run(
      depth,
      seconds,
      () => prng.u32(),
      (io, slot) => {
        io.nsid = nsid;
        io.buffers = buffer.buffers;
        io.bufferOffset = slot * blockSize;
        io.dataBytes = blockSize;
      },
    );
    await buffer.release();
    return load.result(blockSize);
  }

  /** Shuts the controllers down. */
  async close(): Promise<void> {
    await this.host.close();
    this.loop.stop();
  }
}

function checkStatus(status: number, what: string, place: string): void {
  if (status === 0) return;
  throw new PeerlaneError("nvme-command-failed", `${what} failed: ${formatStatus(status)}`, {
    place,
    remedy: "see the target's log",
    details: { status },
  });
}

function hostOptions(options: RemoteOptions) {
  const { subsystemNqn, hostNqn, hostId, credentials, clock } = options;
  return {
    subsystemNqn,
    hostNqn,
    ...(hostId === undefined ? {} : { hostId }),
    ...(credentials === undefined ? {} : { credentials }),
    nowNs: () => clock.nowNs(),
  };
}

/** Runs `use` with a controller of the first address, polled meanwhile. */
async function withController<T>(
  options: RemoteOptions,
  use: (host: NvmfHost) => Promise<T>,
): Promise<T> {
  let host: NvmfHost | null = null;
  const loop = new PollLoop({
    poll: () => host?.poll() ?? 0,
    onError: (error) => {
      throw error;
    },
  });
  const [transport] = transportsOf(options, () => loop.wake());
  assert(transport !== undefined, "there is an address to connect to");
  host = new NvmfHost({ ...hostOptions(options), transport });
  loop.start();
  try {
    await host.connect();
    const result = await use(host);
    await host.disconnect();
    return result;
  } finally {
    loop.stop();
  }
}

/** One attempt: a target that refuses is told of at once, and not tried for ten minutes. */
const probe = (options: RemoteOptions): Promise<void> =>
  withController(options, () => Promise.resolve());

/** The discovery log of a target. `subsystemNqn` does not count. */
export function discover(options: RemoteOptions): Promise<DiscoveryEntry[]> {
  const at = { ...options, subsystemNqn: DISCOVERY_NQN };
  return withController(at, (host) => host.discoveryLog());
}
