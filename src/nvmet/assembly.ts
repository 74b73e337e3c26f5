/**
 * Puts a target together on one machine: rules over its snapshot, a registry of providers, the
 * orchestrator, the target with its ports. What a scenario, a benchmark and a test would otherwise
 * each spell out.
 *
 * It owns no device: drivers are attached by the caller, and polled by the caller's reactor beside
 * the target.
 */

import type { BackingMachine } from "../backing/interface.ts";
import type { BlockQueue } from "../block/index.ts";
import { type Inspectable, PeerlaneError, type Poller, type Tree } from "../core/index.ts";
import type { DmaContext } from "../dma/index.ts";
import type { Machine } from "../machine/index.ts";
import type { NvmeController } from "../nvme/index.ts";
import { type Provider, ProviderRegistry, Rules, Topology } from "../p2p/index.ts";
import type { RdmaDevice } from "../rdma/index.ts";
import { NVMF_PORT, TransportType } from "../spec/nvmf/index.ts";
import { Tracer } from "../trace/index.ts";
import type { Namespace } from "./namespace.ts";
import { Orchestrator, type OrchestratorOptions, type PeerDescription } from "./orchestrator.ts";
import type { P2pSetting } from "./p2p-config.ts";
import type { Port, PortTls } from "./port.ts";
import type { Subsystem, SubsystemOptions } from "./subsystem.ts";
import { Target, type TargetOptions } from "./target.ts";
import { RdmaTargetTransport } from "./transports/rdma/target-transport.ts";
import { type TcpTargetOptions, TcpTargetTransport } from "./transports/tcp/target-transport.ts";

export interface AssemblyOptions {
  readonly context: DmaContext;
  readonly snapshot: Machine;
  readonly trace?: Tracer;
  /** Default: the rules of the kernel that the snapshot names. */
  readonly rules?: Rules;
  readonly description?: PeerDescription;
  readonly policy?: NonNullable<OrchestratorOptions["policy"]>;
  readonly hostPoolBytes?: number;
  /** For challenges and DH keys. Default: the host's. */
  readonly random?: TargetOptions["random"];
  readonly onAuthentication?: NonNullable<TargetOptions["onAuthentication"]>;
  /** Time for keep-alive timers, monotonic nanoseconds. Default: the machine's own. */
  readonly nowNs?: () => number;
}

export interface RdmaPortOptions {
  readonly id?: number;
  /** Default: 4420. */
  readonly port?: number;
  readonly inCapsuleBytes?: number;
  readonly depthMax?: number;
}

/** Where and how to listen for NVMe/TCP. */
export interface TcpPortOptions
  extends Pick<
    TcpTargetOptions,
    "network" | "depthMax" | "connectionsMax" | "inCapsuleBytes" | "cpda" | "wake" | "onEvent"
  > {
  readonly id?: number;
  readonly address: string;
  /** Default: 4420. */
  readonly port?: number;
  readonly tls?: PortTls;
}

export interface DiskOptions {
  /** Default: the next free one. */
  readonly nsid?: number;
  readonly p2pmem?: P2pSetting;
  /** Which of the controller's namespaces; default the first. */
  readonly index?: number;
  /** Puts another queue on top of the controller's. */
  readonly wrap?: (queue: BlockQueue) => BlockQueue;
}

export class TargetAssembly implements Poller, Inspectable {
  readonly rules: Rules;
  readonly registry: ProviderRegistry;
  readonly orchestrator: Orchestrator;
  readonly target: Target;
  readonly transports: RdmaTargetTransport[] = [];
  readonly tcpTransports: TcpTargetTransport[] = [];
  private readonly machine: BackingMachine;

  constructor(options: AssemblyOptions) {
    this.machine = options.context.machine;
    const { clock } = this.machine;
    const nowNs = options.nowNs ?? ((): number => clock.nowNs());
    const trace = options.trace ?? new Tracer(nowNs);
    this.rules = options.rules ?? new Rules(new Topology(options.snapshot));
    this.registry = new ProviderRegistry(this.rules);
    const { description = "lease", policy = "fail", hostPoolBytes } = options;
    this.orchestrator = new Orchestrator({
      registry: this.registry,
      rules: this.rules,
      trace,
      description,
      policy,
      ...(hostPoolBytes === undefined ? {} : { hostPoolBytes }),
    });
    const { random, onAuthentication } = options;
    this.target = new Target({
      orchestrator: this.orchestrator,
      trace,
      nowNs,
      ...(random === undefined ? {} : { random }),
      ...(onAuthentication === undefined ? {} : { onAuthentication }),
    });
  }

  /**
   * Publishes a controller's CMB. Throws `no-cmb` when there is none that peers may read and write.
   */
  publishCmb(controller: NvmeController): Provider {
    const { cmb } = controller;
    if (cmb === null || !cmb.readable || !cmb.writable) {
      throw new PeerlaneError("no-cmb", "the controller has no CMB for data in both directions", {
        remedy: "choose a controller whose CMBSZ has RDS and WDS, or another provider",
      });
    }
    this.registry.publish(cmb.provider);
    return cmb.provider;
  }

  addSubsystem(options: SubsystemOptions): Subsystem {
    return this.target.addSubsystem(options);
  }

  /** A namespace of an NVMe controller as one of the subsystem's, enabled. */
  addDisk(subsystem: Subsystem, controller: NvmeController, options: DiskOptions = {}): Namespace {
    const source = controller.namespaces[options.index ?? 0];
    if (source === undefined) {
      throw new PeerlaneError("no-namespace", "the controller has no such namespace", {
        remedy: "choose one of those it has",
        details: { namespaces: controller.namespaces.length },
      });
    }
    const taken = [...subsystem.allNamespaces()].map(({ nsid }) => nsid);
    const namespace = subsystem.addNamespace({
      nsid: options.nsid ?? Math.max(0, ...taken) + 1,
      queue: options.wrap?.(source.queue) ?? source.queue,
      initiators: [controller.device],
      ...(options.p2pmem === undefined ? {} : { p2pmem: options.p2pmem }),
    });
    subsystem.enable(namespace);
    return namespace;
  }

  /** Opens an RDMA port and offers the subsystems there. Throws `cm-port-busy`. */
  async listenRdma(
    device: RdmaDevice,
    subsystems: readonly Subsystem[],
    options: RdmaPortOptions = {},
  ): Promise<{ port: Port; transport: RdmaTargetTransport }> {
    const port = this.target.addPort({
      id: options.id ?? this.transports.length + 1,
      transport: TransportType.RDMA,
      address: device.address,
      serviceId: String(options.port ?? NVMF_PORT),
    });
    for (const subsystem of subsystems) this.target.link(port, subsystem);
    const { inCapsuleBytes, depthMax } = options;
    const transport = new RdmaTargetTransport({
      target: this.target,
      port,
      device,
      ...(inCapsuleBytes === undefined ? {} : { inCapsuleBytes }),
      ...(depthMax === undefined ? {} : { depthMax }),
    });
    await transport.start();
    this.transports.push(transport);
    return { port, transport };
  }

  /** Opens an NVMe/TCP port and offers the subsystems there. Throws `listen-failed`. */
  async listenTcp(
    subsystems: readonly Subsystem[],
    options: TcpPortOptions,
  ): Promise<{ port: Port; transport: TcpTargetTransport }> {
    const { id, address, port: service = NVMF_PORT, tls = "none", ...rest } = options;
    const port = this.target.addPort({
      id: id ?? this.transports.length + this.tcpTransports.length + 1,
      transport: TransportType.TCP,
      address,
      serviceId: String(service),
      tls,
    });
    for (const subsystem of subsystems) this.target.link(port, subsystem);
    const transport = new TcpTargetTransport({
      ...rest,
      target: this.target,
      port,
      machine: this.machine,
    });
    try {
      await transport.start();
    } catch (error) {
      this.target.removePort(port);
      throw error;
    }
    this.tcpTransports.push(transport);
    return { port, transport };
  }

  /** Listens there no more: ends what came that way and forgets the port. Poll meanwhile. */
  async closeTcp(transport: TcpTargetTransport, port: Port): Promise<void> {
    const closed = transport.close();
    this.target.removePort(port);
    await closed;
    this.tcpTransports.splice(this.tcpTransports.indexOf(transport), 1);
  }

  poll(): number {
    let done = this.target.poll();
    for (let i = 0; i < this.transports.length; i++) done += this.transports[i].poll();
    return done;
  }

  /** Ends all controllers and connections and frees what the target allocated; poll meanwhile. */
  async close(): Promise<void> {
    this.target.shutdown();
    const all = [...this.transports, ...this.tcpTransports];
    await Promise.all(all.map((transport) => transport.close()));
    await this.target.whenIdle();
    this.orchestrator.close();
  }

  inspect(): Tree {
    return {
      target: this.target.inspect(),
      transports: [...this.transports, ...this.tcpTransports].map((transport) =>
        transport.inspect(),
      ),
      providers: this.registry.inspect(),
    };
  }
}
