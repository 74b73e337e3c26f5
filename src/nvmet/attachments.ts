/**
 * The namespaces of one controller: those of its subsystem that its host may see, each with the
 * binding that says where buffers of its I/O come from and what this controller may do to it.
 *
 * Invariant: `namespaces` and `bindings` are arrays by NSID that all its queues share; both have an
 * entry, or neither has.
 */

import { AnaState, NvmeStatus } from "../spec/nvme/index.ts";
import type { NamespaceBinding } from "./binding.hot.ts";
import type { Namespace } from "./namespace.ts";
import type { DataMover, Orchestrator } from "./orchestrator.ts";
import type { Port } from "./port.ts";

/** Whose namespaces they are. */
export interface AttachmentOwner {
  readonly port: Port;
  /** The host's identifier in hexadecimal: who it is to reservations. */
  readonly hostKey: string;
  readonly orchestrator: Orchestrator;
  /** Null: the transport brings its own memory (loop). */
  readonly mover: DataMover | null;
}

export class Attachments {
  readonly namespaces: (Namespace | null)[];
  readonly bindings: (NamespaceBinding | null)[];
  private readonly owner: AttachmentOwner;
  private isWritingThrough = false;

  constructor(owner: AttachmentOwner, nsidMax: number) {
    this.owner = owner;
    this.namespaces = new Array<Namespace | null>(nsidMax + 1).fill(null);
    this.bindings = new Array<NamespaceBinding | null>(nsidMax + 1).fill(null);
  }

  has(namespace: Namespace): boolean {
    return this.namespaces[namespace.nsid] === namespace;
  }

  /** Null: there is none that this controller sees. */
  get(nsid: number): Namespace | null {
    return this.namespaces[nsid] ?? null;
  }

  /** In the order of their NSIDs. */
  active(): Namespace[] {
    return this.namespaces.filter((namespace) => namespace !== null);
  }

  attach(namespace: Namespace): void {
    const { orchestrator, mover } = this.owner;
    const binding =
      mover === null ? orchestrator.bindDirect(namespace) : orchestrator.bind(namespace, mover);
    this.namespaces[namespace.nsid] = namespace;
    this.bindings[namespace.nsid] = binding;
    binding.writesThrough = this.isWritingThrough;
    this.refresh(namespace);
  }

  detach(namespace: Namespace): void {
    const { nsid } = namespace;
    const binding = this.bindings[nsid] ?? null;
    this.namespaces[nsid] = null;
    this.bindings[nsid] = null;
    // The lease closes by itself when the last request in flight gave its memory back.
    if (binding !== null) this.owner.orchestrator.release(binding);
  }

  /** Volatile Write Cache Enable is clear: for this controller alone. */
  get writesThrough(): boolean {
    return this.isWritingThrough;
  }

  set writesThrough(isOn: boolean) {
    this.isWritingThrough = isOn;
    for (const binding of this.bindings) if (binding !== null) binding.writesThrough = isOn;
  }

  /** Looks again at what this controller may do to the namespace. */
  refresh(namespace: Namespace): void {
    const binding = this.bindings[namespace.nsid] ?? null;
    if (binding === null) return;
    binding.accessStatus = accessStatus(this.accessState(namespace));
    binding.reserved = namespace.reservations.conflictsOf(this.owner.hostKey);
    binding.isWriteProtected = namespace.isWriteProtected;
    binding.closeGate();
  }

  /** The ANA state of the namespace's group through this controller's port. */
  accessState(namespace: Namespace): number {
    return this.owner.port.anaState(namespace.anaGroup);
  }

  /** Gives all bindings back: the controller is gone. */
  release(): void {
    for (const namespace of this.active()) this.detach(namespace);
  }
}

/** The status of a command to a group in this state; 0: go on. Base 2.0, section 8.1.3. */
export function accessStatus(state: number): number {
  switch (state) {
    case AnaState.inaccessible:
      return NvmeStatus.anaInaccessible;
    case AnaState.persistentLoss:
      return NvmeStatus.anaPersistentLoss;
    case AnaState.change:
      return NvmeStatus.anaTransition;
    default:
      return NvmeStatus.success;
  }
}
