/**
 * A port of the target: an address on a transport, and the subsystems that are reached through it.
 * The transport itself is an object that the port's owner starts (transports/).
 */

import { type Inspectable, type Tree, UsageError } from "../core/index.ts";
import { AnaState } from "../spec/nvme/index.ts";
import {
  AddressFamily,
  CNTLID_DYNAMIC,
  DISCOVERY_NQN,
  type DiscoveryEntry,
  SecureChannel,
  SubsystemType,
  TcpSecurity,
  TRANSPORT_TYPE_NAMES,
  TransportRequirement,
  TransportType,
} from "../spec/nvmf/index.ts";
import { checkAnaGroup } from "./namespace.ts";
import type { Subsystem } from "./subsystem.ts";

export interface PortOptions {
  /** 1 to 65535. */
  readonly id: number;
  readonly transport: TransportType;
  /** `10.0.0.1` for RDMA; a free name for loop. */
  readonly address: string;
  /** `4420`. */
  readonly serviceId: string;
  /** TCP: TLS 1.3, as `addr_tsas` and `addr_treq` of Linux' nvmet. Default `none`. */
  readonly tls?: PortTls;
}

/** Whether connections use TLS: none do, all do, or each as its host likes. */
export type PortTls = "none" | "required" | "allowed";

/** A pointer to another discovery subsystem. */
export interface Referral {
  readonly transport: TransportType;
  readonly address: string;
  readonly serviceId: string;
  readonly portId: number;
  /** Its own name. Default: the well-known one. */
  readonly nqn?: string;
}

const ANA_STATES = new Set<number>(Object.values(AnaState));

const LISTENS_ON_ALL = new Set(["0.0.0.0", "::"]);

/** Entries of an Admin Queue. */
export const ADMIN_QUEUE_DEPTH = 32;

export class Port implements Inspectable {
  readonly id: number;
  readonly transport: TransportType;
  readonly address: string;
  readonly serviceId: string;
  readonly subsystems = new Set<Subsystem>();
  readonly referrals: Referral[] = [];
  readonly tls: PortTls;
  /** Asymmetric access: state of each ANA group through this port; missing: optimized. */
  private readonly anaStates = new Map<number, number>();
  private readonly anaChanges = new Map<number, number>();
  private anaChangesSum = 0;

  constructor(options: PortOptions) {
    if (!(Number.isInteger(options.id) && options.id >= 1 && options.id <= 0xffff)) {
      throw new UsageError("bad-port", `${options.id} is not a port identifier`, {
        remedy: "use 1 to 65535",
      });
    }
    this.id = options.id;
    this.transport = options.transport;
    this.address = options.address;
    this.serviceId = options.serviceId;
    this.tls = options.tls ?? "none";
    if (this.tls !== "none" && this.transport !== TransportType.TCP) {
      throw new UsageError("bad-port", "only a TCP port has TLS", { remedy: "leave tls out" });
    }
  }

  anaState(group: number): number {
    return this.anaStates.get(group) ?? AnaState.optimized;
  }

  /** Changes of all groups' states, and of one group's. */
  get anaChangeCount(): number {
    return this.anaChangesSum;
  }

  anaGroupChangeCount(group: number): number {
    return this.anaChanges.get(group) ?? 0;
  }

  /**
   * Sets a group's state; the target tells the controllers. Throws {@link UsageError}
   * `bad-ana-group`, `bad-ana-state`.
   */
  setAnaState(group: number, state: number): void {
    checkAnaGroup(group);
    if (!ANA_STATES.has(state)) {
      throw new UsageError("bad-ana-state", `${state} is not an ANA state`, {
        place: `port ${this.id}, group ${group}`,
        remedy: `use ${[...ANA_STATES].join(", ")} (optimized ... change)`,
      });
    }
    this.anaStates.set(group, state);
    this.anaChanges.set(group, this.anaGroupChangeCount(group) + 1);
    this.anaChangesSum++;
  }

  /**
   * Where a host connects to. A port that listens on all addresses has no one of its own: it names
   * the one that the host who asks has `reached`, as Linux does.
   */
  private addressFor(reached: string | undefined): string {
    const isOwn = !LISTENS_ON_ALL.has(this.address) || reached === undefined || reached === "";
    return isOwn ? this.address : reached;
  }

  private familyOf(address: string): number {
    if (this.transport === TransportType.INTRA_HOST) return AddressFamily.INTRA_HOST;
    return address.includes(":") ? AddressFamily.IPV6 : AddressFamily.IPV4;
  }

  /** The discovery log entry of one of its subsystems, for a host that `reached` this address. */
  entryFor(subsystem: Subsystem, reached?: string): DiscoveryEntry {
    const address = this.addressFor(reached);
    return {
      transport: this.transport,
      addressFamily: this.familyOf(address),
      subsystemType: subsystem.isDiscovery ? SubsystemType.CURRENT_DISCOVERY : SubsystemType.NVM,
      requirements: requirements(
        this.tls === "required" ? SecureChannel.REQUIRED : SecureChannel.NOT_REQUIRED,
      ),
      tcpSecurity: this.tls === "none" ? TcpSecurity.none : TcpSecurity.tls13,
      portId: this.id,
      cntlid: CNTLID_DYNAMIC,
      adminQueueSize: ADMIN_QUEUE_DEPTH,
      flags: 0,
      serviceId: this.serviceId,
      subsystemNqn: subsystem.nqn,
      address,
    };
  }

  inspect(): Tree {
    return {
      id: this.id,
      transport: TRANSPORT_TYPE_NAMES[this.transport] ?? this.transport,
      address: this.address,
      serviceId: this.serviceId,
      subsystems: [...this.subsystems].map(({ nqn }) => nqn),
      referrals: this.referrals.map(({ address, serviceId }) => `${address}:${serviceId}`),
      ana: Object.fromEntries([...this.anaStates].sort(([a], [b]) => a - b)),
    };
  }
}

function requirements(channel: SecureChannel): number {
  const none = TransportRequirement.secureChannel.set(0, channel);
  return TransportRequirement.disableSqFlowControl.set(none, 1);
}

/** A referral as a discovery log entry. */
export function referralEntry(referral: Referral): DiscoveryEntry {
  return {
    transport: referral.transport,
    addressFamily: referral.address.includes(":") ? AddressFamily.IPV6 : AddressFamily.IPV4,
    subsystemType: SubsystemType.REFERRAL,
    requirements: requirements(SecureChannel.NOT_SPECIFIED),
    portId: referral.portId,
    cntlid: CNTLID_DYNAMIC,
    adminQueueSize: ADMIN_QUEUE_DEPTH,
    flags: 0,
    serviceId: referral.serviceId,
    subsystemNqn: referral.nqn ?? DISCOVERY_NQN,
    address: referral.address,
  };
}
