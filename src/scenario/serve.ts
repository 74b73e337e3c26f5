/**
 * A target that serves: subsystems as configured over an SSD model in a simulated machine, offered
 * by NVMe/TCP on real sockets until it is told to stop. What `peerlane target` runs.
 *
 * Everything of its configuration may change while hosts are connected, one change after another:
 * what is taken away is taken away from them first. `configuration` says how it is now.
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
  parseP2pSetting,
  type Referral,
  TargetAssembly,
  type TargetOptions,
  type TcpEvent,
} from "../nvmet/index.ts";
import { type Clock, type Network, PollLoop, StateFile } from "../platform/index.ts";
import { TransportType } from "../spec/nvmf/index.ts";
import { Shelf } from "./target/backends.ts";
import { findComplaint } from "./target/load.ts";
import { type PayloadReport, payloadReport, publishProviders } from "./target/providers.ts";
import {
  ANA_STATES,
  type AnaStateName,
  type HostConfig,
  identifierBytes,
  type NamespaceConfig,
  type PortConfig,
  type ReferralConfig,
  type SubsystemConfig,
  type TargetConfig,
} from "./target/schema.ts";
import { hostKeysOf, portTlsOf } from "./target/security.ts";
import { find, type ServedNamespace, ServedPort, ServedSubsystem } from "./target/served.ts";

export interface ServeOptions {
  readonly machine: Machine;
  readonly config: TargetConfig;
  readonly network: Network;
  readonly clock: Clock;
  readonly onEvent: (event: TcpEvent) => void;
  readonly onAuthentication?: NonNullable<TargetOptions["onAuthentication"]>;
  /** It has stopped by itself. */
  readonly onError: (error: unknown) => void;
}

/** How often what drains is looked at, and how long it may take. */
const DRAIN_LOOK_US = 2000;
const DRAIN_MS = 30_000;

/** Builds the machine, starts the target. Throws what opening files and listening throw. */
export class TargetServer {
  readonly subsystems = new Map<string, ServedSubsystem>();
  readonly ports = new Map<number, ServedPort>();
  readonly hosts = new Map<string, HostConfig>();
  readonly assembly: TargetAssembly;
  readonly startedNs: number;
  private readonly options: ServeOptions;
  private readonly shelf: Shelf;
  private readonly loop: PollLoop;
  /** The last change that was asked for. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(options: ServeOptions, shelf: Shelf) {
    const { clock, config, onAuthentication } = options;
    this.options = options;
    this.shelf = shelf;
    this.startedNs = clock.nowNs();
    this.assembly = new TargetAssembly({
      context: shelf.context,
      snapshot: shelf.machine,
      policy: config.p2pmem_policy,
      nowNs: () => clock.nowNs(),
      hostPoolBytes: config.limits.max_in_flight_bytes,
      ...(onAuthentication === undefined ? {} : { onAuthentication }),
    });
    const { target } = this.assembly;
    target.handshakeTimeoutMs = config.limits.icreq_timeout_ms;
    target.connectTimeoutMs = config.limits.connect_timeout_ms;
    target.connectionBytesMax = config.limits.max_connection_bytes;
    target.overdue.stallTimeoutMs = config.limits.stall_timeout_ms;
    target.overdue.transferTimeoutMs = config.limits.transfer_timeout_ms;
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
      throw new UsageError("bad-target-config", message, { place, remedy });
    }
    const ssd = config.ssd === undefined ? undefined : parseBdf(config.ssd);
    let server: TargetServer | null = null;
    // A file's answer may be what the loop waits for.
    const wake = (): void => server?.loop.wake();
    const shelf = await Shelf.open({ machine, ssd, cmbBytes: config.cmb ?? 0, wake });
    server = new TargetServer(options, shelf);
    server.loop.start();
    try {
      server.assembly.orchestrator.prepare(shelf.context.machine);
      publishProviders(server.assembly, shelf, shelf.machine);
      for (const host of config.hosts) server.setHost(host);
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

  get clock(): Clock {
    return this.options.clock;
  }

  /** Runs changes one after another. */
  change<T>(make: () => T | Promise<T>): Promise<T> {
    const made = this.last.then(make);
    this.last = made.catch(() => undefined);
    return made;
  }

  /** How it is configured now. */
  get configuration(): TargetConfig {
    return {
      ...this.options.config,
      hosts: [...this.hosts.values()],
      subsystems: [...this.subsystems.values()].map((served) => served.configuration),
      ports: [...this.ports.values()].map(({ config }) => config),
    };
  }

  /** Sets a host's keys; they hold for connections from now on. */
  setHost(config: HostConfig): void {
    this.assembly.target.security.set(config.nqn, hostKeysOf(config));
    this.hosts.set(config.nqn, config);
  }

  /** Forgets a host: its keys, its places on lists, and its controllers. */
  removeHost(nqn: string): void {
    find(this.hosts, nqn, "host");
    for (const { subsystem } of this.subsystems.values()) {
      subsystem.disallowHost(nqn);
      subsystem.disconnectHost(nqn, "host removed");
    }
    this.hosts.delete(nqn);
    this.assembly.target.security.delete(nqn);
    this.loop.wake();
  }

  async addSubsystem(config: SubsystemConfig): Promise<void> {
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
    this.subsystems.set(nqn, new ServedSubsystem(config, subsystem));
    for (const namespace of config.namespaces) await this.addNamespace(nqn, namespace);
  }

  /** Ends its controllers, takes it off all ports, closes its files. */
  async removeSubsystem(nqn: string): Promise<void> {
    const served = find(this.subsystems, nqn, "subsystem");
    this.subsystems.delete(nqn);
    for (const port of this.ports.values()) port.unlink(nqn);
    this.assembly.target.removeSubsystem(served.subsystem);
    for (const { namespace, backend } of served.namespaces.values()) {
      await this.drained(() => namespace.inFlight === 0 && backend.queue.isIdle);
      await this.shelf.remove(backend);
    }
  }

  /** Lets any host connect, or only those on the list: the controllers of others are ended. */
  setAnyHost(nqn: string, allow: boolean): void {
    const { subsystem } = find(this.subsystems, nqn, "subsystem");
    subsystem.allowAnyHost = allow;
    this.enforceHosts(nqn);
  }

  allowHost(nqn: string, hostNqn: string): void {
    find(this.subsystems, nqn, "subsystem").subsystem.allowHost(hostNqn);
  }

  /** Takes a host off the list and ends its controllers, unless any host may connect. */
  disallowHost(nqn: string, hostNqn: string): void {
    find(this.subsystems, nqn, "subsystem").subsystem.disallowHost(hostNqn);
    this.enforceHosts(nqn);
  }

  private enforceHosts(nqn: string): void {
    const { subsystem } = find(this.subsystems, nqn, "subsystem");
    for (const { hostNqn } of [...subsystem.controllers.values()]) {
      if (!subsystem.mayConnect(hostNqn)) subsystem.disconnectHost(hostNqn, "host removed");
    }
    this.loop.wake();
  }

  async addNamespace(nqn: string, config: NamespaceConfig): Promise<void> {
    const { subsystem, namespaces } = find(this.subsystems, nqn, "subsystem");
    const { nsid, device_uuid: uuid, device_nguid: nguid } = config;
    if (namespaces.has(nsid)) {
      throw new PeerlaneError("nsid-taken", `there is a namespace ${nsid} already`, {
        place: nqn,
        remedy: "choose another NSID, or remove that namespace",
      });
    }
    const backend = await this.shelf.add(config);
    try {
      const namespace = subsystem.addNamespace({
        nsid,
        queue: backend.queue,
        initiators: backend.initiators,
        p2pmem: parseP2pSetting(config.p2pmem),
        readOnly: config.read_only,
        anaGroup: config.ana_grpid,
        ...reservationStore(config.device_path),
        ...(uuid === undefined ? {} : { uuid: identifierBytes(uuid) }),
        ...(nguid === undefined ? {} : { nguid: identifierBytes(nguid) }),
      });
      namespaces.set(nsid, { config, namespace, backend });
      if (config.enable) subsystem.enable(namespace);
    } catch (error) {
      const failed = namespaces.get(nsid);
      if (failed !== undefined) subsystem.removeNamespace(failed.namespace);
      namespaces.delete(nsid);
      await this.shelf.remove(backend);
      throw error;
    }
    this.loop.wake();
  }

  /** New I/O is refused; closes its file when I/O in flight has ended. */
  async removeNamespace(nqn: string, nsid: number): Promise<void> {
    const { subsystem, namespaces } = find(this.subsystems, nqn, "subsystem");
    const { namespace, backend } = find(namespaces, nsid, "namespace");
    subsystem.removeNamespace(namespace);
    namespaces.delete(nsid);
    await this.drained(() => namespace.inFlight === 0 && backend.queue.isIdle);
    await this.shelf.remove(backend);
  }

  /** Shows a namespace to hosts, or takes it away from them and keeps it. */
  setEnabled(nqn: string, nsid: number, enable: boolean): void {
    const served = find(this.subsystems, nqn, "subsystem");
    const one = find(served.namespaces, nsid, "namespace");
    if (enable) served.subsystem.enable(one.namespace);
    else served.subsystem.disable(one.namespace);
    served.namespaces.set(nsid, { ...one, config: { ...one.config, enable } });
    this.loop.wake();
  }

  /** Moves a namespace to an ANA group, or changes its write protection. */
  setNamespace(nqn: string, nsid: number, to: { group?: number; readOnly?: boolean }): void {
    const served = find(this.subsystems, nqn, "subsystem");
    const one = find(served.namespaces, nsid, "namespace");
    const { group = one.config.ana_grpid, readOnly = one.config.read_only } = to;
    served.subsystem.setAnaGroup(one.namespace, group);
    served.subsystem.setReadOnly(one.namespace, readOnly);
    const config = { ...one.config, ana_grpid: group, read_only: readOnly };
    served.namespaces.set(nsid, { ...one, config });
    this.loop.wake();
  }

  async addPort(config: PortConfig): Promise<void> {
    const { network, onEvent } = this.options;
    const { param_inline_data_size: inCapsuleBytes } = config;
    const linked = config.subsystems.map((nqn) => find(this.subsystems, nqn, "subsystem"));
    const { target } = this.assembly;
    const tls = portTlsOf(config);
    if (tls === null) {
      throw new UsageError("not-offered", "addr_treq: required needs addr_tsas: tls1.3", {
        place: `port ${config.portid}`,
        remedy: "add addr_tsas: tls1.3, or take addr_treq out",
      });
    }
    const { port, transport } = await this.assembly.listenTcp([], {
      id: config.portid,
      address: config.addr_traddr,
      port: config.addr_trsvcid,
      depthMax: config.param_max_queue_size,
      connectionsMax: this.options.config.limits.max_connections,
      ...(inCapsuleBytes === undefined ? {} : { inCapsuleBytes }),
      tls,
      network,
      wake: () => this.loop.wake(),
      onEvent,
    });
    const served = new ServedPort(config, port, transport);
    this.ports.set(config.portid, served);
    for (const { grpid, ana_state: state } of config.ana_groups) {
      target.setAnaState(port, grpid, ANA_STATES[state]);
    }
    for (const { subsystem } of linked) target.link(port, subsystem);
    for (const referral of config.referrals) this.showReferral(served, referral);
  }

  /** Listens there no more; the controllers that came that way are ended. */
  async removePort(portid: number): Promise<void> {
    const { port, transport } = find(this.ports, portid, "port");
    this.ports.delete(portid);
    const closed = this.assembly.closeTcp(transport, port);
    this.loop.wake();
    await closed;
  }

  /** Offers a subsystem through a port. */
  link(portid: number, nqn: string): void {
    const served = find(this.ports, portid, "port");
    this.assembly.target.link(served.port, find(this.subsystems, nqn, "subsystem").subsystem);
    served.link(nqn);
  }

  unlink(portid: number, nqn: string): void {
    const served = find(this.ports, portid, "port");
    this.assembly.target.unlink(served.port, find(this.subsystems, nqn, "subsystem").subsystem);
    served.unlink(nqn);
    this.loop.wake();
  }

  /** Sets the state of an ANA group through a port and tells the hosts. */
  setAnaState(portid: number, group: number, state: AnaStateName): void {
    const served = find(this.ports, portid, "port");
    this.assembly.target.setAnaState(served.port, group, ANA_STATES[state]);
    served.setAnaState(group, state);
    this.loop.wake();
  }

  addReferral(portid: number, config: ReferralConfig): void {
    const served = find(this.ports, portid, "port");
    served.addReferral(config);
    this.showReferral(served, config);
    this.loop.wake();
  }

  removeReferral(portid: number, name: string): void {
    const served = find(this.ports, portid, "port");
    const shown = served.removeReferral(name);
    if (shown !== null) this.assembly.target.removeReferral(served.port, shown);
    this.loop.wake();
  }

  private showReferral(served: ServedPort, config: ReferralConfig): void {
    if (!config.enable) return;
    const referral: Referral = {
      transport: config.addr_trtype === "rdma" ? TransportType.RDMA : TransportType.TCP,
      address: config.addr_traddr,
      serviceId: String(config.addr_trsvcid),
      portId: config.addr_portid,
    };
    served.referrals.set(config.name, referral);
    this.assembly.target.addReferral(served.port, referral);
  }

  /** Waits until `isDone`, while the loop polls. Throws `drain-timeout`. */
  private async drained(isDone: () => boolean): Promise<void> {
    const { clock } = this.options;
    const until = clock.nowNs() + DRAIN_MS * 1e6;
    while (!isDone()) {
      if (clock.nowNs() > until || this.loop.isStopped) {
        throw new PeerlaneError("drain-timeout", `I/O in flight did not end in ${DRAIN_MS} ms`, {
          remedy: "look at the health of the disk behind it; its file stays open",
        });
      }
      this.loop.wake();
      await clock.sleep(DRAIN_LOOK_US);
    }
  }

  /** Ends all connections, writes what is to be written, closes the files. */
  async close(): Promise<void> {
    await this.last;
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

/**
 * Reservations that persist are kept beside the file of the namespace. What is in memory is gone
 * with the process, and /dev is no place for files.
 */
function reservationStore(path: string | undefined): { reservationStore?: StateFile } {
  if (path === undefined || path.startsWith("/dev/")) return {};
  return { reservationStore: new StateFile(`${path}.reservations`) };
}
