/**
 * Moves a card from one port to another on a copy of the machine: all functions of the device,
 * since a slot moves as a whole, then addresses and windows on both sides, as firmware would give
 * them at the next boot.
 *
 * Where addresses cannot be given (sizes of BARs unknown, aperture full) the move stands and a note
 * says so: rules do not look at addresses, routes of the fabric do.
 */

import {
  type Bdf,
  bdfBus,
  bdfDevice,
  bdfDomain,
  formatBdf,
  PeerlaneError,
  UsageError,
} from "../core/index.ts";
import {
  type Machine,
  MachineIndex,
  moveFunction,
  NONE,
  PortType,
  reassignWindows,
} from "../machine/index.ts";

export interface MovedDevice {
  readonly machine: Machine;
  /** From the old names of the device's functions to the new ones. */
  readonly names: ReadonlyMap<Bdf, Bdf>;
  readonly notes: readonly string[];
}

/**
 * Moves the device of `bdf` below `port`.
 * @throws UsageError `not-a-port`, `port-taken`, `same-port`, `not-an-endpoint`
 */
export function moveDevice(machine: Machine, bdf: Bdf, port: Bdf): MovedDevice {
  const index = new MachineIndex(machine);
  const at = index.requireIndex(bdf);
  const below = index.requireIndex(port);
  const from = index.parentOf(at);
  if (from === below) {
    throw new UsageError("same-port", `${formatBdf(bdf)} is below ${formatBdf(port)} already`, {
      remedy: freePortsText(machine),
    });
  }
  const occupant = index.childrenOf(below)[0];
  if (occupant !== undefined && isExpressPort(machine, below)) {
    const name = formatBdf(machine.functions[occupant].bdf);
    throw new UsageError("port-taken", `${name} is below ${formatBdf(port)}`, {
      remedy: freePortsText(machine),
    });
  }
  const names = new Map<Bdf, Bdf>();
  let now = machine;
  for (const fn of deviceOf(machine, bdf)) {
    const moved = moveFunction(now, fn, port);
    now = moved.machine;
    names.set(fn, moved.bdf);
  }
  const notes: string[] = [];
  const places = from === NONE ? [port] : [port, machine.functions[from].bdf];
  for (const place of places) now = reassign(now, place, notes);
  return { machine: now, names, notes };
}

/** The functions of one card: same bus, same device number. */
export function deviceOf(machine: Machine, bdf: Bdf): Bdf[] {
  return machine.functions
    .map((fn) => fn.bdf)
    .filter(
      (other) =>
        bdfDomain(other) === bdfDomain(bdf) &&
        bdfBus(other) === bdfBus(bdf) &&
        bdfDevice(other) === bdfDevice(bdf),
    );
}

/** Positions of ports that a card could be put into: nothing is below them. */
export function freePorts(index: MachineIndex): number[] {
  const found: number[] = [];
  for (let port = 0; port < index.count; port++) {
    const { bridge } = index.functions[port];
    if (bridge === null || bridge.secondary === 0 || !isExpressPort(index.machine, port)) continue;
    if (index.childrenOf(port).length === 0) found.push(port);
  }
  return found;
}

function isExpressPort(machine: Machine, at: number): boolean {
  const type = machine.functions[at].pcie?.portType;
  return type === PortType.rootPort || type === PortType.switchDownstream;
}

function freePortsText(machine: Machine): string {
  const ports = freePorts(new MachineIndex(machine)).map((at) => machine.functions[at].bdf);
  if (ports.length === 0) return "no port of this machine is free";
  const shown = ports.slice(0, 8).map(formatBdf).join(", ");
  return `free ports are ${shown}${ports.length > 8 ? ", ..." : ""}`;
}

function reassign(machine: Machine, place: Bdf, notes: string[]): Machine {
  try {
    const { machine: done, report } = reassignWindows(machine, place);
    notes.push(...report.assumed);
    return done;
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    notes.push(`addresses below ${formatBdf(place)} cannot be given: ${error.message}`);
    return machine;
  }
}
