/**
 * What a target serves, object by object: the configuration of each beside what was made from it.
 * Keeps the two in step; what a change does to hosts is serve.ts' part.
 */

import { PeerlaneError } from "../../core/index.ts";
import type {
  Namespace,
  Port,
  Referral,
  Subsystem,
  TcpTargetTransport,
} from "../../nvmet/index.ts";
import type { Backend } from "./backends.ts";
import type {
  AnaStateName,
  NamespaceConfig,
  PortConfig,
  ReferralConfig,
  SubsystemConfig,
} from "./schema.ts";

/** What has this name. Throws `no-such-...`. */
export function find<K, V>(all: ReadonlyMap<K, V>, name: K, what: string): V {
  const found = all.get(name);
  if (found !== undefined) return found;
  throw new PeerlaneError(`no-such-${what}`, `there is no ${what} ${String(name)}`, {
    remedy: "peerlane targetctl show lists what there is",
  });
}

/** A namespace that is served. */
export interface ServedNamespace {
  readonly config: NamespaceConfig;
  readonly namespace: Namespace;
  readonly backend: Backend;
}

export class ServedSubsystem {
  readonly subsystem: Subsystem;
  readonly namespaces = new Map<number, ServedNamespace>();
  private readonly config: SubsystemConfig;

  constructor(config: SubsystemConfig, subsystem: Subsystem) {
    this.config = config;
    this.subsystem = subsystem;
  }

  get configuration(): SubsystemConfig {
    return {
      ...this.config,
      attr_allow_any_host: this.subsystem.allowAnyHost,
      allowed_hosts: [...this.subsystem.allowedHosts],
      namespaces: [...this.namespaces.values()].map(({ config }) => config),
    };
  }
}

export class ServedPort {
  readonly port: Port;
  readonly transport: TcpTargetTransport;
  /** Where it listens, with the port number that was chosen. */
  readonly at: { readonly address: string; readonly port: number };
  /** Referrals that hosts see, by name. */
  readonly referrals = new Map<string, Referral>();
  config: PortConfig;

  constructor(config: PortConfig, port: Port, transport: TcpTargetTransport) {
    this.config = config;
    this.port = port;
    this.transport = transport;
    this.at = transport.at ?? { address: config.addr_traddr, port: config.addr_trsvcid };
  }

  link(nqn: string): void {
    if (this.config.subsystems.includes(nqn)) return;
    this.config = { ...this.config, subsystems: [...this.config.subsystems, nqn] };
  }

  unlink(nqn: string): void {
    const subsystems = this.config.subsystems.filter((other) => other !== nqn);
    this.config = { ...this.config, subsystems };
  }

  setAnaState(grpid: number, state: AnaStateName): void {
    const others = this.config.ana_groups.filter((group) => group.grpid !== grpid);
    this.config = { ...this.config, ana_groups: [...others, { grpid, ana_state: state }] };
  }

  /** Throws `name-taken`. */
  addReferral(referral: ReferralConfig): void {
    const { referrals } = this.config;
    if (referrals.some(({ name }) => name === referral.name)) {
      throw new PeerlaneError("name-taken", `there is a referral ${referral.name} already`, {
        place: `port ${this.config.portid}`,
        remedy: "choose another name, or remove that referral",
      });
    }
    this.config = { ...this.config, referrals: [...referrals, referral] };
  }

  /** Returns what hosts saw of it; null: it was not enabled. Throws `no-such-referral`. */
  removeReferral(name: string): Referral | null {
    const { referrals } = this.config;
    find(new Map(referrals.map((referral) => [referral.name, referral])), name, "referral");
    const others = referrals.filter((referral) => referral.name !== name);
    this.config = { ...this.config, referrals: others };
    const shown = this.referrals.get(name) ?? null;
    this.referrals.delete(name);
    return shown;
  }
}
