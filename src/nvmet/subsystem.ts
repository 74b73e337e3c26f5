/**
 * An NVM subsystem: a name, namespaces, the hosts that may connect, and its controllers. Dynamic
 * controller model: each association makes a controller with an identifier that no other has.
 *
 * Invariant: a namespace that is enabled is known to every controller; changes raise the events
 * that hosts asked for.
 */

import {
  type Inspectable,
  NVMET_CONTROLLERS_MAX,
  NVMET_NAMESPACES_MAX,
  NVMET_QUEUES_MAX,
  PeerlaneError,
  type Tree,
  UsageError,
} from "../core/index.ts";
import { CNTLID_MAX, isDiscoveryNqn, nqnProblem } from "../spec/nvmf/index.ts";
import { Namespace, type NamespaceOptions } from "./namespace.ts";
import type { Orchestrator } from "./orchestrator.ts";

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
}

/** What a subsystem tells its controllers. */
export interface SubsystemMember {
  readonly cntlid: number;
  readonly hostNqn: string;
  namespaceEnabled(namespace: Namespace): void;
  /** The namespace takes no new I/O; settles when none of this controller is in flight. */
  namespaceDisabled(namespace: Namespace): void;
  accessChanged(): void;
}

export class Subsystem implements Inspectable {
  readonly nqn: string;
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly queuesMax: number;
  readonly mdts: number;
  readonly isDiscovery: boolean;
  allowAnyHost: boolean;
  readonly controllers = new Map<number, SubsystemMember>();
  private readonly hosts: Set<string>;
  private readonly byNsid = new Map<number, Namespace>();
  private readonly orchestrator: Orchestrator;
  private nextCntlid = 1;

  /** Throws {@link UsageError} `bad-nqn`, `bad-subsystem`. */
  constructor(options: SubsystemOptions, orchestrator: Orchestrator) {
    const problem = nqnProblem(options.nqn);
    if (problem !== null) throw badNqn(options.nqn, problem);
    this.nqn = options.nqn;
    this.isDiscovery = isDiscoveryNqn(options.nqn);
    this.serial = options.serial ?? serialFrom(options.nqn);
    this.model = options.model ?? "Peerlane NVMe-oF target";
    this.firmware = options.firmware ?? "1";
    this.allowAnyHost = options.allowAnyHost ?? false;
    this.hosts = new Set(options.allowedHosts ?? []);
    this.queuesMax = options.queuesMax ?? 16;
    this.mdts = options.mdts ?? 8;
    checkRange("queuesMax", this.queuesMax, 1, NVMET_QUEUES_MAX);
    checkRange("mdts", this.mdts, 1, MDTS_MAX);
    this.orchestrator = orchestrator;
  }

  /** Largest transfer in bytes. */
  get transferMax(): number {
    return 4096 * 2 ** this.mdts;
  }

  /** Adds a host to the list. Throws {@link UsageError} `bad-nqn`. */
  allowHost(nqn: string): void {
    const problem = nqnProblem(nqn);
    if (problem !== null) throw badNqn(nqn, problem);
    this.hosts.add(nqn);
  }

  /** Takes a host off the list; its controllers stay. */
  disallowHost(nqn: string): void {
    this.hosts.delete(nqn);
  }

  mayConnect(hostNqn: string): boolean {
    return this.allowAnyHost || this.hosts.has(hostNqn);
  }

  /** Adds a namespace, disabled. Throws `nsid-taken`, {@link UsageError} `bad-nsid`. */
  addNamespace(options: NamespaceOptions): Namespace {
    if (this.byNsid.has(options.nsid)) {
      throw new PeerlaneError("nsid-taken", `there is a namespace ${options.nsid} already`, {
        place: this.nqn,
        remedy: "choose another NSID, or remove that namespace",
      });
    }
    const namespace = new Namespace(this.nqn, options);
    this.byNsid.set(options.nsid, namespace);
    return namespace;
  }

  /** Makes it visible. Throws `p2pmem-unusable` when its p2pmem setting can serve nobody. */
  enable(namespace: Namespace): void {
    if (namespace.enabled) return;
    this.orchestrator.checkNamespace(namespace);
    namespace.enabled = true;
    for (const controller of this.controllers.values()) controller.namespaceEnabled(namespace);
  }

  /** Takes it away: new I/O is refused, I/O in flight ends by itself. */
  disable(namespace: Namespace): void {
    if (!namespace.enabled) return;
    namespace.enabled = false;
    for (const controller of this.controllers.values()) controller.namespaceDisabled(namespace);
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

  namespace(nsid: number): Namespace | null {
    const namespace = this.byNsid.get(nsid);
    return namespace?.enabled === true ? namespace : null;
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
      allowAnyHost: this.allowAnyHost,
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

function badNqn(nqn: string, problem: string): UsageError {
  return new UsageError("bad-nqn", `"${nqn}" is not an NVMe Qualified Name: ${problem}`, {
    remedy: "write nqn.yyyy-mm.reversed.domain:name",
  });
}

/** 16 hexadecimal digits that are the same for the same name (FNV-1a, two starts). */
function serialFrom(nqn: string): string {
  let text = "";
  for (const start of [0x811c9dc5, 0x1b873593]) {
    let hash = start;
    for (const byte of new TextEncoder().encode(nqn)) hash = Math.imul(hash ^ byte, 0x01000193);
    text += (hash >>> 0).toString(16).padStart(8, "0");
  }
  return text;
}
