/**
 * Peer memory of the machine that serves: what may stage payload between sockets and the SSD. The
 * SSD's CMB, if it was given one, and the memory BARs of GPUs and accelerators are published; which
 * of them a namespace uses, its setting and the rules decide.
 *
 * Leaves out: CMBs of other SSDs (a dump does not tell whether they have one).
 */

import type { Machine } from "../../machine/index.ts";
import type { TargetAssembly } from "../../nvmet/index.ts";
import { Provider } from "../../p2p/index.ts";
import { memoryOwners, payloadBar } from "../select.ts";
import type { Shelf } from "./backends.ts";

/** The smallest BAR that is worth staging in: display chips of management controllers have less. */
const PROVIDER_BYTES_MIN = 64 * 1024 * 1024;
/** What is taken of a large one. */
const PROVIDER_BYTES_MAX = 256 * 1024 * 1024;

/** Publishes all peer memory of the machine. */
export function publishProviders(assembly: TargetAssembly, shelf: Shelf, machine: Machine): void {
  if (shelf.controller.cmb !== null) assembly.publishCmb(shelf.controller);
  for (const fn of memoryOwners(machine, PROVIDER_BYTES_MIN)) {
    const bar = payloadBar(fn, PROVIDER_BYTES_MIN);
    if (bar === null) continue;
    const part = { sizeBytes: Math.min(bar.sizeBytes, PROVIDER_BYTES_MAX) };
    assembly.registry.publish(Provider.fromBar(shelf.fabric.open(fn.bdf), bar.index, part));
  }
}

/** Which way payload took, and how often it was copied. */
export interface PayloadReport {
  /** Bytes of I/O by what staged them, on the sockets' side and on the SSD's. */
  readonly net: Readonly<Record<string, number>>;
  readonly disk: Readonly<Record<string, number>>;
  /** All of it. */
  readonly bytes: number;
  /** Staged in host memory: in buffers, and in capsules. */
  readonly hostMemoryBytes: number;
  /** Copied in user space, from and to the sockets' buffers; the data of commands included. */
  readonly copiedFromSockets: number;
  readonly copiedToSockets: number;
}

export function payloadReport(assembly: TargetAssembly): PayloadReport {
  const { netBytes, diskBytes } = assembly.orchestrator.counters.inspect() as {
    netBytes: Record<string, number>;
    diskBytes: Record<string, number>;
  };
  let copiedFromSockets = 0;
  let copiedToSockets = 0;
  for (const { copies } of assembly.tcpTransports) {
    copiedFromSockets += copies.fromSocket;
    copiedToSockets += copies.toSocket;
  }
  const bytes = Object.values(netBytes).reduce((sum, each) => sum + each, 0);
  const hostMemoryBytes = (netBytes["host-memory"] ?? 0) + (netBytes["capsule"] ?? 0);
  const rest = { copiedFromSockets, copiedToSockets };
  return { net: netBytes, disk: diskBytes, bytes, hostMemoryBytes, ...rest };
}
