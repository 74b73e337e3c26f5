/**
 * The orchestrator: decides at connect where the buffers of each namespace come from, for the NIC
 * the host came through. It asks the rules of p2p, opens a lease for all devices that will touch
 * the memory, and leaves the answer in a {@link NamespaceBinding}; per request only a pool is asked
 * (orchestrator.hot.ts).
 *
 * Invariants: every "no" is counted under the verdict's reason and kept for `inspect()`; a lease is
 * shared by all bindings of the same provider and devices and closed with the last of them; when a
 * provider is torn down its bindings look for another one, else their policy decides.
 *
 * Differs from Linux' nvmet on purpose: host memory in place of peer memory is a policy and is
 * counted (there: silent); metadata and log lines never use a provider that was dropped.
 *
 * Leaves out: what a connection may hold of a pool (share.hot.ts).
 */

import type { BackingMachine, HostRegion, MappedRegion } from "../backing/interface.ts";
import { NO_MEMORY } from "../block/index.ts";
import {
  type Bdf,
  formatBdf,
  type Inspectable,
  PAGE_SIZE,
  PeerlaneError,
  type Tree,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import {
  cpuMemory,
  DmaAddressMemory,
  type HostMemory,
  LeaseMemory,
  mapHostMemory,
} from "../memory/index.ts";
import {
  type Lease,
  openLease,
  PoolAllocator,
  type Provider,
  type ProviderRegistry,
  REASONS,
  type Route,
  type RouteRules,
  reasonOf,
} from "../p2p/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import { HostPool, NamespaceBinding, POLICY_NAMES, Policy } from "./binding.hot.ts";
import { OrchestratorCounters, RouteIndex } from "./counters.ts";
import { DiskViews } from "./disk-views.ts";
import type { Namespace } from "./namespace.ts";
import { PoolKind } from "./share.hot.ts";
import { StoreQueue } from "./store-queue.hot.ts";

/** What a vector of peer memory carries. */
export type PeerDescription = "lease" | "dma-address";

export interface OrchestratorOptions {
  readonly registry: ProviderRegistry;
  readonly rules: RouteRules;
  /** Default: `lease`. */
  readonly description?: PeerDescription;
  /** When peer memory is wanted and there is none. Default: `fail`. */
  readonly policy?: (typeof POLICY_NAMES)[number];
  /** Host buffers per NIC, in bytes. Default: 16 MiB. */
  readonly hostPoolBytes?: number;
  readonly trace: Tracer;
}

/** Why a namespace got the memory it got; for people. */
export interface ProviderChoice {
  readonly nsid: number;
  readonly nic: Bdf | null;
  readonly provider: Bdf | null;
  /** Sum over all devices; -1 without a provider. */
  readonly distance: number;
  /** Reason code: of the verdict, or one of the orchestrator's own. */
  readonly reason: string;
  readonly text: string;
}

/** What is used of the host buffers of one NIC, or of the CPU. */
export interface HostPoolUse {
  readonly nic: string;
  readonly sizeBytes: number;
  readonly availableBytes: number;
  /** Requests that hold a buffer for payload, and one for control data. */
  readonly requests: number;
  readonly controlRequests: number;
}

/** What moves data between the network and buffers: a NIC, or the CPU of a machine (TCP). */
export type DataMover = DmaDevice | BackingMachine;

/** Buffers in host memory that one NIC uses, and what each set of disks calls them. */
interface NicBuffers {
  readonly data: NicPool;
  /** Admin data and the like: apart, so that traffic reports tell payload from control. */
  readonly control: NicPool;
  readonly disks: DiskViews;
}

interface NicPool {
  readonly machine: BackingMachine;
  readonly region: HostRegion;
  readonly memory: HostMemory;
  readonly pool: HostPool;
}

interface SharedLease {
  readonly lease: Lease;
  readonly bindings: Set<Bound>;
}

/** A binding with what it was made from. */
interface Bound {
  readonly binding: NamespaceBinding;
  readonly namespace: Namespace;
  readonly mover: DataMover;
  shared: SharedLease | null;
  choice: ProviderChoice;
}

const ROUTE_INDEX: Readonly<Record<Route, number>> = {
  self: RouteIndex.self,
  bus: RouteIndex.bus,
  "host-bridge": RouteIndex.hostBridge,
  none: RouteIndex.hostMemory,
};

/** In traces, where the CPU moves the data. */
const NO_NIC = -1;

const isDevice = (mover: DataMover): mover is DmaDevice => "bdf" in mover;

const HOST_POOL_BYTES = 16 * 1024 * 1024;
const CONTROL_POOL_BYTES = 4 * 1024 * 1024;

export class Orchestrator implements Inspectable {
  readonly counters = new OrchestratorCounters();
  readonly description: PeerDescription;
  readonly policy: Policy;
  /** Providers that were torn down under a binding, and replaced by another one. */
  rebinds = 0;
  private readonly registry: ProviderRegistry;
  private readonly rules: RouteRules;
  private readonly trace: Tracer;
  private readonly hostPoolBytes: number;
  private readonly nics = new Map<DataMover, NicBuffers>();
  private readonly leases = new Map<string, SharedLease>();
  private readonly bound = new Map<NamespaceBinding, Bound>();
  /** Provider BARs that the CPU has mapped, by owner and number. */
  private readonly windows = new Map<string, MappedRegion>();

  constructor(options: OrchestratorOptions) {
    this.registry = options.registry;
    this.rules = options.rules;
    this.trace = options.trace;
    this.description = options.description ?? "lease";
    this.policy = options.policy === "host-memory" ? Policy.hostMemory : Policy.fail;
    this.hostPoolBytes = options.hostPoolBytes ?? HOST_POOL_BYTES;
  }

  /**
   * Checks at enable time what can be checked without a NIC. Throws `p2pmem-unusable` when the
   * queue takes no peer memory, the fixed provider does not reach the namespace's devices, or no
   * published provider does.
   */
  checkNamespace(namespace: Namespace): void {
    const { p2pmem } = namespace;
    if (p2pmem.kind === "off") return;
    const refuse = (message: string, remedy: string, details = {}): never => {
      const place = `namespace ${namespace.nsid}`;
      throw new PeerlaneError("p2pmem-unusable", message, { place, remedy, details });
    };
    if (!namespace.takesPeerMemory) {
      refuse(
        `the queue ${namespace.queue.name} takes no peer memory`,
        "use a queue with the dma-direct feature, or set p2pmem to 0",
      );
    }
    const clients = namespace.initiators.map(({ bdf }) => bdf);
    const choice = this.choose(namespace, clients);
    // Where the policy allows host memory, a missing provider is a fallback that connects count.
    if (choice.provider === null && this.policy === Policy.fail) {
      refuse(choice.text, "publish a provider the devices reach, or set p2pmem to 0", {
        reason: choice.reason,
      });
    }
  }

  /** Where a namespace's data will be staged, as far as its disks decide that; for people. */
  preview(namespace: Namespace): string {
    if (namespace.p2pmem.kind === "off") return "host memory";
    const clients = namespace.initiators.map(({ bdf }) => bdf);
    const { provider, text } = this.choose(namespace, clients);
    return provider === null ? `nothing: ${text}` : text;
  }

  /**
   * What a namespace's requests through `mover` use. Give it back with {@link release}. The CPU is
   * no initiator: it needs no route, but the provider's BAR mapped, and the disk fetches from there
   * as it would from what a NIC has written.
   */
  bind(namespace: Namespace, mover: DataMover): NamespaceBinding {
    const { nsid } = namespace;
    const binding = new NamespaceBinding(this.counters, this.trace, nsid, this.policy);
    const buffers = this.nicBuffers(mover);
    binding.host = buffers.data.pool;
    binding.hostDiskMemory = buffers.disks.of(namespace);
    const { queue } = namespace;
    if (!isDevice(mover) && queue instanceof StoreQueue) binding.store = queue;
    const none: ProviderChoice = {
      nsid,
      nic: isDevice(mover) ? mover.bdf : null,
      provider: null,
      distance: -1,
      reason: "p2pmem-off",
      text: "the namespace is set to use host memory",
    };
    const bound: Bound = { binding, namespace, mover, shared: null, choice: none };
    this.bound.set(binding, bound);
    if (namespace.p2pmem.kind !== "off") {
      binding.wantsPeer = true;
      this.attach(bound);
      if (bound.shared !== null) this.counters.connectsWithProvider++;
      else this.counters.countNoProvider(bound.choice.reason);
    }
    return binding;
  }

  /** A binding for a transport that brings the initiator's own memory (loop). */
  bindDirect(namespace: Namespace): NamespaceBinding {
    return new NamespaceBinding(this.counters, this.trace, namespace.nsid, this.policy);
  }

  /** Finds a provider and opens, or joins, the lease. */
  private attach(bound: Bound): void {
    const { namespace, binding, mover } = bound;
    const nics = isDevice(mover) ? [mover] : [];
    const devices = [...nics, ...namespace.initiators.filter((device) => device !== mover)];
    const chosen = this.choose(
      namespace,
      devices.map(({ bdf }) => bdf),
    );
    const { nic } = bound.choice;
    bound.choice = { ...chosen, nsid: namespace.nsid, nic, provider: null };
    if (chosen.provider !== null) this.join(bound, chosen.provider, devices);
    if (!this.trace.on) return;
    const { choice } = bound;
    if (choice.provider === null) {
      this.trace.emit(
        Event.nvmetNoProvider,
        binding.nsid,
        nic ?? NO_NIC,
        reasonNumber(choice.reason),
      );
    } else {
      const { provider, distance } = choice;
      this.trace.emit(Event.nvmetProvider, binding.nsid, provider, nic ?? NO_NIC, distance);
    }
  }

  private join(bound: Bound, provider: Provider, devices: readonly DmaDevice[]): void {
    if (this.description === "dma-address" && bound.namespace.initiators.length > 1) {
      // The RFC's gap: one address cannot serve several legs, and block has no way to ask.
      bound.choice = {
        ...bound.choice,
        reason: "stacked-needs-lease",
        text: "a DMA address is for one device, and the namespace is stacked on several",
      };
      return;
    }
    let window: MappedRegion | null = null;
    let shared: SharedLease;
    try {
      if (!isDevice(bound.mover)) window = this.windowTo(bound.mover, provider);
      shared = this.leaseFor(provider, devices);
    } catch (error) {
      if (!(error instanceof PeerlaneError)) throw error;
      bound.choice = { ...bound.choice, reason: error.code, text: error.message };
      return;
    }
    shared.bindings.add(bound);
    bound.shared = shared;
    bound.choice = { ...bound.choice, provider: provider.owner };
    this.fill(bound, shared.lease, window);
  }

  /** The lease of these devices on a provider: the one that is open, or a new one. */
  private leaseFor(provider: Provider, devices: readonly DmaDevice[]): SharedLease {
    const key = [provider.owner, provider.phys, ...devices.map(({ id }) => id)].join();
    const known = this.leases.get(key);
    if (known !== undefined && !known.lease.revoked) return known;
    const lease = openLease({ provider, initiators: devices, rules: this.rules });
    const shared = { lease, bindings: new Set<Bound>() };
    this.leases.set(key, shared);
    lease.onRevoke(() => this.revoked(key));
    return shared;
  }

  /** A provider's BAR as the CPU of `machine` reaches it. Throws `no-bar`. */
  private windowTo(machine: BackingMachine, { owner, bar }: Provider): MappedRegion {
    const key = `${owner}/${bar}`;
    let window = this.windows.get(key);
    if (window === undefined) {
      window = machine.open(owner).mapBar(bar);
      this.windows.set(key, window);
    }
    return window;
  }

  /** Writes the view that mover and disk have of the lease into the binding. */
  private fill(bound: Bound, lease: Lease, window: MappedRegion | null): void {
    const { binding, namespace, mover } = bound;
    const disk = namespace.initiators[0];
    const nic = isDevice(mover) ? mover : null;
    binding.lease = lease;
    binding.netRoute = nic === null ? RouteIndex.cpu : ROUTE_INDEX[lease.routeOf(nic.id)];
    binding.diskRoute = Math.max(
      ...namespace.initiators.map(({ id }) => ROUTE_INDEX[lease.routeOf(id)]),
    );
    binding.netWindow = window;
    const carriesLease = this.description === "lease" || disk === undefined;
    binding.diskMemory = carriesLease ? new LeaseMemory(lease) : new DmaAddressMemory(disk.id);
    binding.diskBase = carriesLease ? 0 : lease.bases[disk.id];
    if (nic === null) {
      binding.netMemory = NO_MEMORY;
      binding.netBase = lease.provider.barOffset;
      return;
    }
    // Each device's own address: they differ as soon as one of them is behind an IOMMU or a bridge
    // that redirects.
    binding.netMemory = carriesLease ? binding.diskMemory : new DmaAddressMemory(nic.id);
    binding.netBase = carriesLease ? 0 : lease.bases[nic.id];
  }

  /** The provider is going: its bindings look for another one now; what is in flight drains. */
  private revoked(key: string): void {
    const shared = this.leases.get(key);
    if (shared === undefined) return;
    this.leases.delete(key);
    for (const bound of shared.bindings) {
      bound.shared = null;
      this.attach(bound);
      if (bound.shared !== null) this.rebinds++;
    }
    shared.bindings.clear();
  }

  /** Asks the registry for all `clients`; a fixed setting accepts only its own provider. */
  private choose(
    namespace: Namespace,
    clients: readonly Bdf[],
  ): { provider: Provider | null; distance: number; reason: string; text: string } {
    const { p2pmem } = namespace;
    const { candidates } = this.registry.find(clients);
    const eligible =
      p2pmem.kind === "fixed"
        ? candidates.filter(({ provider }) => provider.owner === p2pmem.provider)
        : candidates;
    const best = eligible.find(({ distance }) => distance >= 0);
    if (best !== undefined) {
      return {
        provider: best.provider,
        distance: best.distance,
        reason: best.direct ? "direct" : "host-bridge",
        text: `memory of ${formatBdf(best.provider.owner)}, distance ${best.distance}`,
      };
    }
    const closest = eligible[0];
    if (closest === undefined) {
      const what = p2pmem.kind === "fixed" ? `by ${formatBdf(p2pmem.provider)}` : "in this machine";
      return {
        provider: null,
        distance: -1,
        reason: "nothing-published",
        text: `no peer memory is published ${what}`,
      };
    }
    const verdict = clients
      .map((client) => this.rules.verdict(closest.provider.owner, client))
      .find(({ route }) => route === "none");
    return {
      provider: null,
      distance: -1,
      reason: verdict?.reason ?? "unknown",
      text: verdict?.text ?? closest.lost ?? "no provider reaches all devices",
    };
  }

  /** A mover's host buffers for admin data, made on first use. */
  controlPool(mover: DataMover): HostPool {
    return this.nicBuffers(mover).control.pool;
  }

  /** Makes a mover's host buffers now, not at its first host's Connect. Throws `no-host-memory`. */
  prepare(mover: DataMover): void {
    this.nicBuffers(mover);
  }

  private nicBuffers(nic: DataMover): NicBuffers {
    const known = this.nics.get(nic);
    if (known !== undefined) return known;
    const data = makePool(nic, this.hostPoolBytes, "payload");
    const buffers: NicBuffers = {
      data,
      control: makePool(nic, CONTROL_POOL_BYTES, "control"),
      disks: new DiskViews(data.region),
    };
    this.nics.set(nic, buffers);
    return buffers;
  }

  /** Ends a binding. No request may hold memory of it any more. */
  release(binding: NamespaceBinding): void {
    const bound = this.bound.get(binding);
    if (bound === undefined) return;
    this.bound.delete(binding);
    const { shared } = bound;
    if (shared === null) return;
    shared.bindings.delete(bound);
    if (shared.bindings.size > 0) return;
    for (const [key, value] of this.leases) if (value === shared) this.leases.delete(key);
    // Nothing is in flight on it, so this ends at once; a failure would be a broken invariant.
    void shared.lease.close();
  }

  /** Frees the host buffers. No controller may be left. */
  close(): void {
    for (const { data, control, disks } of this.nics.values()) {
      disks.close();
      for (const { machine, region, memory } of [data, control]) {
        memory.close();
        machine.freeHost(region);
      }
    }
    this.nics.clear();
  }

  /** Host buffers for payload, by what moves it, and who holds some. */
  get hostPools(): HostPoolUse[] {
    return [...this.nics].map(([nic, { data, control }]) => ({
      nic: isDevice(nic) ? formatBdf(nic.bdf) : "cpu",
      sizeBytes: data.pool.pool.sizeBytes,
      availableBytes: data.pool.pool.available,
      requests: data.pool.inUse,
      controlRequests: control.pool.inUse,
    }));
  }

  /** Who uses which provider, and why not. */
  choices(): ProviderChoice[] {
    return [...this.bound.values()].map(({ choice }) => choice);
  }

  inspect(): Tree {
    return {
      description: this.description,
      policy: POLICY_NAMES[this.policy],
      rebinds: this.rebinds,
      bindings: [...this.bound.values()].map(({ choice, binding }) => ({
        nsid: choice.nsid,
        nic: choice.nic === null ? null : formatBdf(choice.nic),
        provider: choice.provider === null ? null : formatBdf(choice.provider),
        distance: choice.distance,
        reason: choice.reason,
        text: choice.text,
        inFlight: binding.lease?.inFlight ?? 0,
      })),
      hostPools: this.hostPools.map((pool) => ({ ...pool })),
      counters: this.counters.inspect(),
    };
  }
}

function makePool(mover: DataMover, sizeBytes: number, purpose: keyof typeof PoolKind): NicPool {
  const machine = isDevice(mover) ? mover.fn.machine : mover;
  const region = machine.allocateHost(sizeBytes, PAGE_SIZE, purpose);
  const memory = isDevice(mover) ? mapHostMemory(region, [mover]) : cpuMemory(region);
  return {
    machine,
    region,
    memory,
    pool: new HostPool(new PoolAllocator(sizeBytes, PAGE_SIZE), memory, PoolKind[purpose]),
  };
}

/** Reasons of the orchestrator's own, after those of the rules in traces. */
const OWN_REASONS = ["nothing-published", "stacked-needs-lease", "provider-dying", "dma-map"];

function reasonNumber(reason: string): number {
  const ofRules = reasonOf(reason);
  return ofRules >= 0 ? ofRules : REASONS.length + OWN_REASONS.indexOf(reason);
}
