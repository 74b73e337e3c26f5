/**
 * A target that serves: an SSD model in a simulated machine, over memory or files, offered by
 * NVMe/TCP on real sockets until it is told to stop. What `peerlane target` runs.
 *
 * The CPU moves the data between socket and host memory of the machine; the SSD's driver and model
 * move it between there and the medium. Flush of a file namespace is an fdatasync of its file.
 *
 * Leaves out: peer memory (the NIC would be the CPU), TLS, authentication, changing anything while
 * it runs, simulated time (the fabric is functional; keep-alive runs on the real clock).
 */

import { type Bdf, PeerlaneError, Reactor, type Tree, UsageError } from "../core/index.ts";
import { DmaContext } from "../dma/index.ts";
import { buildFabric, FileStore, NvmeModel } from "../fabric/index.ts";
import { deviceKind, type Machine, type PciFunction } from "../machine/index.ts";
import { NvmeController } from "../nvme/index.ts";
import { TargetAssembly, type TcpEvent } from "../nvmet/index.ts";
import {
  type BlockFile,
  type Clock,
  FileStatus,
  type Network,
  openBlockFile,
  PollLoop,
} from "../platform/index.ts";
import { NVMF_PORT } from "../spec/nvmf/index.ts";
import { parseSize } from "./schema.ts";

export interface ServedNamespace {
  readonly sizeBytes: number;
  /** Null: in memory, gone with the process. */
  readonly file: string | null;
}

export interface ServeOptions {
  readonly machine: Machine;
  /** Default: the first SSD that the dump tells enough of. */
  readonly ssd?: Bdf;
  readonly address: string;
  /** 0: any free one; the discovery log then names no usable port. */
  readonly port: number;
  readonly nqn: string;
  /** Empty: any host may connect. */
  readonly allowedHosts: readonly string[];
  readonly namespaces: readonly ServedNamespace[];
  readonly network: Network;
  readonly clock: Clock;
  readonly onEvent: (event: TcpEvent) => void;
  /** It has stopped by itself. */
  readonly onError: (error: unknown) => void;
}

const SIZE_MIN = 4096;

/** `127.0.0.1:4420`, `[::1]:4420`, `127.0.0.1`. Throws `bad-listen`. */
export function parseListen(text: string): { address: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[3] === undefined ? NVMF_PORT : Number(match[3]);
  const address = match?.[1] ?? match?.[2];
  if (address !== undefined && port >= 1 && port <= 0xffff) return { address, port };
  throw new UsageError("bad-listen", `"${text}" is no address to listen on`, {
    remedy: "write 127.0.0.1:4420 or [::1]:4420",
  });
}

/** `size=1G` or `size=1G,file=disk.img`. Throws `bad-namespace`. */
export function parseNamespace(text: string): ServedNamespace {
  const refuse = (why: string): never => {
    throw new UsageError("bad-namespace", `"${text}" is no namespace: ${why}`, {
      remedy: "write size=1G for memory, or size=1G,file=disk.img",
    });
  };
  let sizeBytes = 0;
  let file: string | null = null;
  for (const part of text.split(",")) {
    const [key, value = ""] = splitOnce(part);
    if (key === "size") {
      sizeBytes = parseSize(value) ?? refuse(`"${value}" is no size`);
    } else if (key === "file" && value !== "") file = value;
    else refuse(`"${part}" is not size= or file=`);
  }
  if (sizeBytes < SIZE_MIN || sizeBytes % SIZE_MIN !== 0) {
    refuse("its size must be a multiple of 4 KiB");
  }
  return { sizeBytes, file };
}

function splitOnce(text: string): [string, string?] {
  const at = text.indexOf("=");
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function chooseSsd(machine: Machine, wanted: Bdf | undefined): PciFunction {
  const usable = machine.functions.filter((fn) => {
    const bar = fn.bars.find(({ index }) => index === 0);
    const hasRegisters = bar !== undefined && bar.address !== 0 && bar.sizeBytes !== null;
    return deviceKind(fn) === "nvme" && fn.physicalFunction === null && hasRegisters;
  });
  const found = wanted === undefined ? usable[0] : usable.find(({ bdf }) => bdf === wanted);
  if (found !== undefined) return found;
  throw new PeerlaneError("no-such-device", "there is no such NVMe controller in this machine", {
    place: machine.name,
    remedy: "peerlane topo shows what there is; a BAR must have an address and a size",
  });
}

/** Builds the machine, starts the target. Throws what opening files and listening throw. */
export class TargetServer {
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  readonly ssd: PciFunction;
  private readonly assembly: TargetAssembly;
  private readonly loop: PollLoop;
  private readonly files: readonly BlockFile[];

  private constructor(parts: {
    readonly at: { readonly address: string; readonly port: number };
    readonly ssd: PciFunction;
    readonly assembly: TargetAssembly;
    readonly loop: PollLoop;
    readonly files: readonly BlockFile[];
  }) {
    this.address = parts.at.address;
    this.port = parts.at.port;
    this.ssd = parts.ssd;
    this.assembly = parts.assembly;
    this.loop = parts.loop;
    this.files = parts.files;
  }

  static async open(options: ServeOptions): Promise<TargetServer> {
    const ssd = chooseSsd(options.machine, options.ssd);
    const files: BlockFile[] = [];
    let server: TargetServer | null = null;
    // A file's answer may be what the loop waits for.
    const wake = (): void => server?.loop.wake();
    try {
      const namespaces = options.namespaces.map(({ sizeBytes, file }) => {
        if (file === null) return { sizeBytes };
        const opened = openBlockFile(file, { sizeBytes, lock: true, wake });
        files.push(opened);
        return { store: new FileStore(opened, sizeBytes) };
      });
      server = await TargetServer.start(options, ssd, namespaces, files);
      return server;
    } catch (error) {
      for (const file of files) file.close();
      throw error;
    }
  }

  private static async start(
    options: ServeOptions,
    ssd: PciFunction,
    namespaces: ConstructorParameters<typeof NvmeModel>[0]["namespaces"],
    files: readonly BlockFile[],
  ): Promise<TargetServer> {
    const { machine, network, clock, address, port } = options;
    const fabric = buildFabric(machine, {
      model: (fn, { copier }) =>
        fn.bdf === ssd.bdf ? new NvmeModel({ copier, namespaces }) : null,
    });
    const context = new DmaContext(fabric, { iommu: "off", snapshot: machine });
    const controller = await NvmeController.attach(context.device(ssd.bdf));
    const nowNs = (): number => clock.nowNs();
    const assembly = new TargetAssembly({ context, snapshot: machine, nowNs });
    const allowAnyHost = options.allowedHosts.length === 0;
    const { nqn, allowedHosts, onEvent } = options;
    const subsystem = assembly.addSubsystem({ nqn, allowAnyHost, allowedHosts });
    for (const index of namespaces.keys()) {
      assembly.addDisk(subsystem, controller, { index, p2pmem: { kind: "off" } });
    }
    const reactor = new Reactor();
    for (const poller of [assembly, controller, fabric]) reactor.add(poller);
    const loop = new PollLoop({ poll: () => reactor.round(), onError: options.onError });
    const wake = (): void => loop.wake();
    const { transport } = await assembly.listenTcp([subsystem], {
      network,
      address,
      port,
      wake,
      onEvent,
    });
    loop.start();
    return new TargetServer({
      at: transport.at ?? { address, port },
      ssd,
      assembly,
      loop,
      files,
    });
  }

  /** Ends all connections, writes what is to be written, closes the files. */
  async close(): Promise<void> {
    // After an error of its own nothing drains any more; what reached the files is kept.
    if (!this.loop.isStopped) {
      const drained = this.assembly.close();
      this.loop.wake();
      await drained;
      this.loop.stop();
    }
    const failed: BlockFile[] = [];
    for (const file of this.files) {
      await file.idle();
      if (!file.readOnly && file.syncNow() !== FileStatus.ok) failed.push(file);
      file.close();
    }
    const lost = failed[0];
    if (lost === undefined) return;
    throw new PeerlaneError("block-file", `${lost.path} was not written out: ${lost.lastError}`, {
      place: lost.path,
      remedy: "look at the system's log for errors of the disk; the last writes may be lost",
    });
  }

  inspect(): Tree {
    return { address: this.address, port: this.port, target: this.assembly.inspect() };
  }
}
