/**
 * A target that serves: subsystems as configured over an SSD model in a simulated machine, offered
 * by NVMe/TCP on real sockets until it is told to stop. What `peerlane target` runs.
 *
 * The CPU moves the data between sockets and host memory of the machine, or the memory of a
 * provider where a namespace takes it; the SSD's driver and model move it between there and the
 * medium. Flush of a file namespace is an fdatasync of its file.
 *
 * Leaves out: simulated time (the fabric is functional; keep-alive runs on the real clock).
 */

import { PeerlaneError, parseBdf, Reactor, type Tree, UsageError } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import {
  type AuthEvent,
  type Namespace,
  type Port,
  parseP2pSetting,
  type Subsystem,
  TargetAssembly,
  type TcpEvent,
  type TcpTargetTransport,
} from "../nvmet/index.ts";
import { type Clock, type Network, PollLoop } from "../platform/index.ts";
import { TransportType } from "../spec/nvmf/index.ts";
import { type Backend, SsdShelf } from "./target/backends.ts";
import { findComplaint } from "./target/load.ts";
import { type PayloadReport, payloadReport, publishProviders } from "./target/providers.ts";
import {
  ANA_STATES,
  type NamespaceConfig,
  type PortConfig,
  type SubsystemConfig,
  type TargetConfig,
} from "./target/schema.ts";
import { hostKeysOf, portTlsOf } from "./target/security.ts";

export interface ServeOptions {
  readonly machine: Machine;
  readonly config: TargetConfig;
  readonly network: Network;
  readonly clock: Clock;
  readonly onEvent: (event: TcpEvent) => void;
  /** Told how authentications end. */
  readonly onAuthentication?: (event: AuthEvent) => void;
  /** It has stopped by itself. */
  readonly onError: (error: unknown) => void;
}

/** A namespace that is served. */
export interface ServedNamespace {
  readonly config: NamespaceConfig;
  readonly namespace: Namespace;
  readonly backend: Backend;
}

export interface ServedSubsystem {
  readonly config: SubsystemConfig;
  readonly subsystem: Subsystem;
  readonly namespaces: Map<number, ServedNamespace>;
}

export interface ServedPort {
  readonly config: PortConfig;
  readonly port: Port;
  readonly transport: TcpTargetTransport;
  /** Where it listens, with the port number that was chosen. */
  readonly at: { readonly address: string; readonly port: number };
}

/** Builds the machine, starts the target. Throws what opening files and listening throw. */
export class TargetServer {
  readonly subsystems = new Map<string, ServedSubsystem>();
  readonly ports = new Map<number, ServedPort>();
  private readonly options: ServeOptions;
  private readonly shelf: SsdShelf;
  private readonly assembly: TargetAssembly;
  private readonly loop: PollLoop;

  private constructor(options: ServeOptions, shelf: SsdShelf) {
    const { clock, config } = options;
    this.options = options;
    this.shelf = shelf;
    this.assembly = new TargetAssembly({
      context: shelf.context,
      snapshot: shelf.machine,
      policy: config.p2pmem_policy,
      nowNs: () => clock.nowNs(),
      hostPoolBytes: config.limits.max_in_flight_bytes,
      ...(options.onAuthentication === undefined
        ? {}
        : { onAuthentication: options.onAuthentication }),
    });
    const reactor = new Reactor();
    for (const poller of [this.assembly, ...shelf.pollers]) reactor.add(poller);
    this.loop = new PollLoop({ poll: () => reactor.round(), onError: options.onError });
  }

  static async open(options: ServeOptions): Promise<TargetServer> {
    const { config, machine } = options;
    const complaint = findComplaint(config);
    if (complaint !== null) {
      const place = complaint.path.map(String).join(".");
      const { message, remedy } = complaint;
      throw new PeerlaneError("bad-target-config", message, { place, remedy });
    }
    refuseUnoffered(config);
    const ssd = config.ssd === undefined ? undefined : parseBdf(config.ssd);
    let server: TargetServer | null = null;
    // A file's answer may be what the loop waits for.
    const wake = (): void => server?.loop.wake();
    const shelf = await SsdShelf.open({ machine, ssd, cmbBytes: config.cmb ?? 0, wake });
    server = new TargetServer(options, shelf);
    server.loop.start();
    try {
      publishProviders(server.assembly, shelf, shelf.machine);
      const { security } = server.assembly.target;
      for (const host of config.hosts) security.set(host.nqn, hostKeysOf(host));
      for (const subsystem of config.subsystems) await server.addSubsystem(subsystem);
      for (const port of config.ports) await server.addPort(port);
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** The SSD whose model has the namespaces. */
  get ssd(): PciFunction {
    return this.shelf.ssd;
  }

  private async addSubsystem(config: SubsystemConfig): Promise<void> {
    const { nqn, attr_serial: serial } = config;
    const subsystem = this.assembly.addSubsystem({
      nqn,
      ...(serial === undefined ? {} : { serial }),
      model: config.attr_model,
      firmware: config.attr_firmware,
      allowAnyHost: config.attr_allow_any_host,
      allowedHosts: config.allowed_hosts,
      queuesMax: config.attr_qid_max,
    });
    const served: ServedSubsystem = { config, subsystem, namespaces: new Map() };
    this.subsystems.set(nqn, served);
    for (const namespace of config.namespaces) await this.addNamespace(served, namespace);
  }

  private async addNamespace(served: ServedSubsystem, config: NamespaceConfig): Promise<void> {
    const { subsystem, namespaces } = served;
    const { nsid, device_uuid: uuid, device_nguid: nguid } = config;
    const backend = await this.shelf.add(config);
    const namespace = subsystem.addNamespace({
      nsid,
      queue: backend.queue,
      initiators: [this.shelf.controller.device],
      p2pmem: parseP2pSetting(config.p2pmem),
      readOnly: config.read_only,
      anaGroup: config.ana_grpid,
      ...(uuid === undefined ? {} : { uuid: identifierBytes(uuid) }),
      ...(nguid === undefined ? {} : { nguid: identifierBytes(nguid) }),
    });
    namespaces.set(nsid, { config, namespace, backend });
    if (config.enable) subsystem.enable(namespace);
  }

  private async addPort(config: PortConfig): Promise<void> {
    const { network, onEvent } = this.options;
    const { param_inline_data_size: inCapsuleBytes } = config;
    const linked = config.subsystems.map((nqn) => this.subsystemOf(nqn).subsystem);
    const { port, transport } = await this.assembly.listenTcp(linked, {
      id: config.portid,
      address: config.addr_traddr,
      port: config.addr_trsvcid,
      depthMax: config.param_max_queue_size,
      ...(inCapsuleBytes === undefined ? {} : { inCapsuleBytes }),
      tls: portTlsOf(config) ?? "none",
      network,
      wake: () => this.loop.wake(),
      onEvent,
    });
    const { target } = this.assembly;
    for (const { grpid, ana_state: state } of config.ana_groups) {
      target.setAnaState(port, grpid, ANA_STATES[state]);
    }
    for (const referral of config.referrals) {
      if (!referral.enable) continue;
      target.addReferral(port, {
        transport: referral.addr_trtype === "rdma" ? TransportType.RDMA : TransportType.TCP,
        address: referral.addr_traddr,
        serviceId: String(referral.addr_trsvcid),
        portId: referral.addr_portid,
      });
    }
    const asked = { address: config.addr_traddr, port: config.addr_trsvcid };
    this.ports.set(config.portid, { config, port, transport, at: transport.at ?? asked });
  }

  private subsystemOf(nqn: string): ServedSubsystem {
    const found = this.subsystems.get(nqn);
    if (found !== undefined) return found;
    throw new PeerlaneError("no-subsystem", `there is no subsystem ${nqn}`, {
      remedy: "add it first",
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
    await this.shelf.close();
  }

  /** What the SSD was given that the dump's has not, in words. */
  get edits(): readonly string[] {
    return this.shelf.edits;
  }

  /** Which way payload took, and how often it was copied. */
  payload(): PayloadReport {
    return payloadReport(this.assembly);
  }

  /** Where a namespace's data is staged; for people. */
  staging({ namespace }: ServedNamespace): string {
    return this.assembly.orchestrator.preview(namespace);
  }

  inspect(): Tree {
    return {
      target: this.assembly.inspect(),
      storage: this.shelf.inspect(),
      payload: { ...this.payload() },
    };
  }
}

/** What the configuration knows and this target does not do yet is refused, never ignored. */
function refuseUnoffered(config: TargetConfig): void {
  const { subsystems, ports } = config;
  const namespaces = subsystems.flatMap((subsystem) => subsystem.namespaces);
  const wants: [string, boolean][] = [
    ["control", config.control !== undefined],
    ["metrics", config.metrics !== undefined],
    ["addr_treq: required without addr_tsas: tls1.3", ports.some((port) => !portTlsOf(port))],
    ["buffered_io", namespaces.some(({ buffered_io: isBuffered }) => !isBuffered)],
  ];
  const unoffered = wants.find(([, isWanted]) => isWanted);
  if (unoffered === undefined) return;
  throw new UsageError("not-offered", `${unoffered[0]} is not offered yet`, {
    remedy: "take it out of the configuration",
  });
}

/** The 16 bytes of a UUID or NGUID as text. */
function identifierBytes(text: string): Uint8Array {
  const digits = text.replaceAll("-", "");
  return Uint8Array.from({ length: 16 }, (_, i) =>
    Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
}
