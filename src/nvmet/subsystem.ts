/**
 * An NVM subsystem: a name, namespaces, the hosts that may connect, and its controllers. Dynamic
 * controller model: each association makes a controller with an identifier that no other has.
 *
 * Everything here may change while hosts are connected, through the methods below: they tell the
 * controllers and, where discovery shows it, the target.
 *
 * Invariant: a namespace that is enabled is known to every controller of a host that may see it;
 * changes raise the events that hosts asked for.
 */

import {
  hexDigits,
  type Inspectable,
  NVMET_CONTROLLERS_MAX,
  NVMET_NAMESPACES_MAX,
  NVMET_QUEUES_MAX,
  PeerlaneError,
  type Tree,
  UsageError,
} from "../core/index.ts";
import { CNTLID_MAX, DISCOVERY_NQN, nqnProblem } from "../spec/nvmf/index.ts";
import { CommandStats } from "./command-stats.hot.ts";
import { checkAnaGroup, Namespace, type NamespaceOptions } from "./namespace.ts";
import type { Orchestrator } from "./orchestrator.ts";
import type { Victim } from "./queue.hot.ts";

export interface SubsystemOptions {
  readonly nqn: string;
  /** Up to 20 characters. Default: made from the name. */
  readonly serial?: string;
  /** Up to 40 characters. */
  readonly model?: string;
  /** Up to 8 characters. */
  readonly firmware?: string;
  /** Hosts on no list may connect. Default false. */
  readonly allowAnyHost?: boolean;
  readonly allowedHosts?: readonly string[];
  /** I/O queues per controller. Default 16. */
  readonly queuesMax?: number;
  /** Largest transfer: 2^n pages of 4 KiB (MDTS), n up to 11. Default 8, which is 1 MiB. */
  readonly mdts?: number;
  /** What its controllers are: with I/O queues, or for discovery. Default: `nvm`. */
  readonly kind?: "nvm" | "discovery";
}

/** What a subsystem tells its controllers. */
export interface SubsystemMember {
  readonly cntlid: number;
  readonly hostNqn: string;
  /** The host's identifier in hexadecimal. */
  readonly hostKey: string;
  /** Appeared, or went: to this host. New I/O is refused; I/O in flight ends by itself. */
  attach(namespace: Namespace): void;
  detach(namespace: Namespace): void;
  /** What Identify tells of it changed. */
  attributesChanged(namespace: Namespace): void;
  /** What this controller may do to it changed. */
  gateChanged(namespace: Namespace): void;
  /** A group's state, or a namespace's group: raises the event. */
  accessChanged(): void;
  reservationNotice(namespace: Namespace, notice: number): void;
  abortIo(nsid: number, status: number, victims: Victim[]): void;
  end(reason: string): void;
}

/** Who hears of changes that discovery shows. */
export interface SubsystemListener {
  /** The hosts that may connect; null: perhaps all of them. */
  hostsChanged(subsystem: Subsystem, hostNqn: string | null): void;
  namespaceAdded(namespace: Namespace): void;
  /** The namespace left; its last I/O may be in flight. */
  namespaceRemoved(namespace: Namespace): void;
}

const NOBODY: SubsystemListener = {
  hostsChanged: () => undefined,
  namespaceAdded: () => undefined,
  namespaceRemoved: () => undefined,
};

export class Subsystem implements Inspectable {
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly queuesMax: number;
  readonly mdts: number;
  readonly isDiscovery: boolean;
  readonly controllers = new Map<number, SubsystemMember>();
  /** Commands of its controllers that are about no namespace. */
  readonly stats = new CommandStats();
  private name: string;
  private anyHost: boolean;
  private readonly hosts: Set<string>;
  private readonly byNsid = new Map<number, Namespace>();
  private readonly orchestrator: Orchestrator;
  private readonly listener: SubsystemListener;
  private nextCntlid = 1;

  /** Throws {@link UsageError} `bad-nqn`, `bad-subsystem`. */
  constructor(
    options: SubsystemOptions,
    orchestrator: Orchestrator,
    listener: SubsystemListener = NOBODY,
  ) {
    checkNqn(options.nqn);
    this.name = options.nqn;
    this.listener = listener;
    this.isDiscovery = options.kind === "discovery";
    this.serial = options.serial ?? serialFrom(options.nqn);
    this.model = options.model ?? "Peerlane NVMe-oF target";
    this.firmware = options.firmware ?? "1";
    this.anyHost = options.allowAnyHost ?? false;
    this.hosts = new Set(options.allowedHosts ?? []);
    this.queuesMax = options.queuesMax ?? 16;
    this.mdts = options.mdts ?? 8;
    checkRange("queuesMax", this.queuesMax, 1, NVMET_QUEUES_MAX);
    checkRange("mdts", this.mdts, 1, MDTS_MAX);
    this.orchestrator = orchestrator;
  }

  get nqn(): string {
    return this.name;
  }

  /** For the discovery subsystem, whose name is a setting. Throws {@link UsageError} `bad-nqn`. */
  rename(nqn: string): void {
    checkNqn(nqn);
    this.name = nqn;
  }

  /** Its name, or the well-known one where it is for discovery. */
  answersTo(nqn: string): boolean {
    return nqn === this.name || (this.isDiscovery && nqn === DISCOVERY_NQN);
  }

  /** Largest transfer in bytes. */
  get transferMax(): number {
    return 4096 * 2 ** this.mdts;
  }

  get allowAnyHost(): boolean {
    return this.anyHost;
  }

  set allowAnyHost(allow: boolean) {
    if (allow === this.anyHost) return;
    this.anyHost = allow;
    this.listener.hostsChanged(this, null);
  }

  get allowedHosts(): readonly string[] {
    return [...this.hosts];
  }

  /** Adds a host to the list. Throws {@link UsageError} `bad-nqn`. */
  allowHost(nqn: string): void {
    checkNqn(nqn);
    if (this.hosts.has(nqn)) return;
    this.hosts.add(nqn);
    this.listener.hostsChanged(this, nqn);
  }

  /** Takes a host off the list. Its controllers stay, as in Linux; see {@link disconnectHost}. */
  disallowHost(nqn: string): void {
    if (this.hosts.delete(nqn)) this.listener.hostsChanged(this, nqn);
  }

  /** Ends a host's controllers. Returns how many. */
  disconnectHost(nqn: string, reason = "host disconnected by the administrator"): number {
    const its = [...this.controllers.values()].filter(({ hostNqn }) => hostNqn === nqn);
    for (const controller of its) controller.end(reason);
    return its.length;
  }

  mayConnect(hostNqn: string): boolean {
    return this.anyHost || this.hosts.has(hostNqn);
  }

  /**
   * Adds a namespace, disabled. Throws `nsid-taken`, {@link UsageError} `bad-nsid`,
   * `bad-ana-group`, `bad-identifier`.
   */
  addNamespace(options: NamespaceOptions): Namespace {
    if (this.byNsid.has(options.nsid)) {
      throw new PeerlaneError("nsid-taken", `there is a namespace ${options.nsid} already`, {
        place: this.nqn,
        remedy: "choose another NSID, or remove that namespace",
      });
    }
    const namespace = new Namespace(this.nqn, options);
    this.byNsid.set(options.nsid, namespace);
    this.listener.namespaceAdded(namespace);
    return namespace;
  }

  /** Makes it visible. Throws `p2pmem-unusable` when its p2pmem setting can serve nobody. */
  enable(namespace: Namespace): void {
    if (namespace.enabled) return;
    this.orchestrator.checkNamespace(namespace);
    namespace.enabled = true;
    for (const controller of this.membersSeeing(namespace)) controller.attach(namespace);
  }

  /** Takes it away: new I/O is refused, I/O in flight ends by itself. */
  disable(namespace: Namespace): void {
    if (!namespace.enabled) return;
    namespace.enabled = false;
    for (const controller of this.membersSeeing(namespace)) controller.detach(namespace);
  }

  /**
   * Disables it and forgets it. Its block queue is polled on until `namespace.inFlight` is 0; only
   * then may its owner close what is behind it.
   */
  removeNamespace(namespace: Namespace): void {
    this.disable(namespace);
    if (this.byNsid.get(namespace.nsid) !== namespace) return;
    this.byNsid.delete(namespace.nsid);
    this.listener.namespaceRemoved(namespace);
  }

  /**
   * Takes the size of its block queue over; or `blocks`, which must not be more. Throws
   * {@link UsageError} `bad-size`.
   */
  resize(namespace: Namespace, blocks = namespace.capacityBlocks): void {
    if (!(Number.isInteger(blocks) && blocks >= 1 && blocks <= namespace.capacityBlocks)) {
      throw new UsageError("bad-size", `${blocks} blocks is no size for namespace`, {
        place: `namespace ${namespace.nsid} of ${this.nqn}`,
        remedy: `use 1 to ${namespace.capacityBlocks}, what its block queue has`,
      });
    }
    if (blocks === namespace.blocks) return;
    namespace.blocks = blocks;
    this.attributesChanged(namespace);
  }

  /** Moves it to another ANA group. Throws {@link UsageError} `bad-ana-group`. */
  setAnaGroup(namespace: Namespace, group: number): void {
    checkAnaGroup(group);
    if (group === namespace.anaGroup) return;
    namespace.anaGroup = group;
    if (!namespace.enabled) return;
    for (const controller of this.membersSeeing(namespace)) {
      controller.gateChanged(namespace);
      controller.accessChanged();
    }
  }

  /** Configures write protection; hosts cannot take it off again. */
  setReadOnly(namespace: Namespace, readOnly: boolean): void {
    if (readOnly === namespace.readOnly) return;
    namespace.readOnly = readOnly;
    this.gateChanged(namespace);
    this.attributesChanged(namespace);
  }

  /** Write protection as a host sets it (feature 84h). */
  setWriteProtected(namespace: Namespace, isProtected: boolean): void {
    if (isProtected === namespace.writeProtected) return;
    namespace.writeProtected = isProtected;
    this.gateChanged(namespace);
    this.attributesChanged(namespace);
  }

  /** The hosts that see it; null: all that may connect. It appears and goes while they look on. */
  setNamespaceHosts(namespace: Namespace, hosts: readonly string[] | null): void {
    const before = new Set(this.membersSeeing(namespace));
    namespace.hosts = hosts === null ? null : new Set(hosts);
    if (!namespace.enabled) return;
    const after = new Set(this.membersSeeing(namespace));
    for (const controller of after) if (!before.has(controller)) controller.attach(namespace);
    for (const controller of before) if (!after.has(controller)) controller.detach(namespace);
  }

  /** What controllers may do to it changed: they look again. */
  gateChanged(namespace: Namespace): void {
    for (const controller of this.membersSeeing(namespace)) controller.gateChanged(namespace);
  }

  /** Reservations changed what hosts may do, and these are told. */
  reservationsChanged(
    namespace: Namespace,
    notices: readonly { readonly host: string; readonly notice: number }[],
  ): void {
    for (const controller of this.membersSeeing(namespace)) {
      controller.gateChanged(namespace);
      for (const { host, notice } of notices) {
        if (host === controller.hostKey) controller.reservationNotice(namespace, notice);
      }
    }
  }

  /** The controllers of these hosts, by their identifiers in hexadecimal. */
  membersOf(hostKeys: ReadonlySet<string>): SubsystemMember[] {
    return [...this.controllers.values()].filter(({ hostKey }) => hostKeys.has(hostKey));
  }

  private attributesChanged(namespace: Namespace): void {
    if (!namespace.enabled) return;
    for (const controller of this.membersSeeing(namespace)) controller.attributesChanged(namespace);
  }

  private membersSeeing(namespace: Namespace): SubsystemMember[] {
    return [...this.controllers.values()].filter(({ hostNqn }) => namespace.isVisibleTo(hostNqn));
  }

  /** Enabled namespaces by NSID. */
  namespaces(): Namespace[] {
    return [...this.byNsid.values()]
      .filter(({ enabled }) => enabled)
      .sort((a, b) => a.nsid - b.nsid);
  }

  /** Also those that are disabled: their last I/O may be in flight. */
  allNamespaces(): IterableIterator<Namespace> {
    return this.byNsid.values();
  }

  /** Enabled or not; null: there is none. */
  namespace(nsid: number): Namespace | null {
    return this.byNsid.get(nsid) ?? null;
  }

  /** The largest NSID there can be: NN of Identify Controller. */
  get nsidMax(): number {
    return NVMET_NAMESPACES_MAX;
  }

  /** An identifier for a new controller; -1 when all are in use. */
  takeCntlid(): number {
    if (this.controllers.size >= NVMET_CONTROLLERS_MAX) return -1;
    // An identifier comes back late, so that a host that reconnects is not taken for its past self.
    while (this.controllers.has(this.nextCntlid)) this.nextCntlid = after(this.nextCntlid);
    const cntlid = this.nextCntlid;
    this.nextCntlid = after(cntlid);
    return cntlid;
  }

  inspect(): Tree {
    return {
      nqn: this.nqn,
      serial: this.serial,
      model: this.model,
      allowAnyHost: this.anyHost,
      hosts: [...this.hosts],
      namespaces: [...this.byNsid.values()].map((namespace) => namespace.inspect()),
      controllers: [...this.controllers.values()].map(({ cntlid, hostNqn }) => ({
        cntlid,
        hostNqn,
      })),
    };
  }
}

/** 2^11 pages are 8 MiB; 16 MiB is one byte more than a keyed SGL descriptor can say. */
const MDTS_MAX = 11;

function checkRange(name: string, value: number, low: number, high: number): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  throw new UsageError("bad-subsystem", `${name} ${value} is not possible`, {
    remedy: `use ${low} to ${high}`,
  });
}

const after = (cntlid: number): number => (cntlid >= CNTLID_MAX ? 1 : cntlid + 1);

function checkNqn(nqn: string): void {
  const problem = nqnProblem(nqn);
  if (problem === null) return;
  throw new UsageError("bad-nqn", `"${nqn}" is not an NVMe Qualified Name: ${problem}`, {
    remedy: "write nqn.yyyy-mm.reversed.domain:name",
  });
}

/** 16 hexadecimal digits that are the same for the same name (FNV-1a, two starts). */
function serialFrom(nqn: string): string {
  let text = "";
  for (const start of [0x811c9dc5, 0x1b873593]) {
    let hash = start;
    for (const byte of new TextEncoder().encode(nqn)) hash = Math.imul(hash ^ byte, 0x01000193);
    text += hexDigits(hash >>> 0, 8);
  }
  return text;
}
