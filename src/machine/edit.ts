/**
 * What-if edits of a machine. Each returns a new machine and leaves the given one as it was; facts
 * and configuration bytes of the edited function agree afterwards. Moving BARs and windows is
 * reassign.ts.
 */

import {
  ADDRESS_LIMIT,
  type Bdf,
  bdfDevice,
  bdfDomain,
  bdfFunction,
  formatBdf,
  isPowerOfTwo,
  makeBdf,
  UsageError,
} from "../core/index.ts";
import {
  AcsBit,
  barCount,
  CONFIG_PCI_BYTES,
  ExtendedId,
  egressVectorWords,
} from "../spec/pcie/index.ts";
import { type HostFacts, hostFrom, mergeHostFacts } from "./host-facts.ts";
import type { Bar, Machine, PciFunction, Unknown } from "./snapshot.ts";
import { withFreshConfig } from "./synthesize.ts";
import { MachineIndex } from "./tree.ts";

/** Replaces one function. Throws `no-such-function` when the machine has none of that name. */
export function editFunction(
  machine: Machine,
  bdf: Bdf,
  change: (fn: PciFunction) => PciFunction,
): Machine {
  const at = new MachineIndex(machine).requireIndex(bdf);
  const functions = [...machine.functions];
  functions[at] = withFreshConfig(change(functions[at] as PciFunction));
  return { ...machine, functions };
}

const without = (unknown: readonly Unknown[], ...fields: string[]): Unknown[] =>
  unknown.filter(({ field }) => !fields.includes(field));

/**
 * Sets the ACS Control word, all bits of it, whether or not the function implements them: the
 * question is what would follow. Throws `no-acs` without the capability.
 */
export function setAcsControl(machine: Machine, bdf: Bdf, control: number): Machine {
  return editFunction(machine, bdf, (fn) => {
    if (fn.acs === null) {
      throw new UsageError("no-acs", `${formatBdf(bdf)} has no ACS capability`, {
        place: formatBdf(bdf),
        remedy: "name a root port or a switch downstream port that has one, or add one first",
      });
    }
    return { ...fn, acs: { ...fn.acs, control: control & 0xffff } };
  });
}

/** Where a new extended capability may begin at the latest. */
const LAST_EXTENDED_OFFSET = 0xf80;
/** Kept free after the last capability, whose own length a snapshot does not always know. */
const EXTENDED_ROOM = 0x80;

/**
 * Gives a function an ACS capability with all controls off, as if its port implemented them.
 * @param capabilities ACS Capability word; all but Egress Control when not given
 * Throws `acs-present`, or `no-room` when extended configuration space is full.
 */
export function addAcs(machine: Machine, bdf: Bdf, capabilities = 0x5f): Machine {
  return editFunction(machine, bdf, (fn) => {
    if (fn.acs !== null) {
      throw new UsageError("acs-present", `${formatBdf(bdf)} has an ACS capability`, {
        remedy: "set its control word instead",
      });
    }
    const places = fn.capabilities.filter(({ extended }) => extended).map(({ offset }) => offset);
    const offset = places.length === 0 ? CONFIG_PCI_BYTES : Math.max(...places) + EXTENDED_ROOM;
    if (offset > LAST_EXTENDED_OFFSET || fn.pcie === null) {
      throw new UsageError("no-room", `${formatBdf(bdf)} has no room for an ACS capability`, {
        remedy: "name a PCI Express function with free extended configuration space",
      });
    }
    const entry = { id: ExtendedId.acs, offset, extended: true, version: 1 };
    return {
      ...fn,
      acs: { offset, capabilities, control: 0, egressVector: null },
      capabilities: [...fn.capabilities, entry],
      unknown: without(fn.unknown, "acs"),
    };
  });
}

/**
 * Sets the egress control vector, bit n for port n, and gives the function Egress Control if it had
 * none. Throws `no-acs` without the capability.
 */
export function setEgressVector(machine: Machine, bdf: Bdf, vector: readonly number[]): Machine {
  return editFunction(machine, bdf, (fn) => {
    if (fn.acs === null || vector.length < 1 || vector.length > 8) {
      throw new UsageError("no-acs", `${formatBdf(bdf)} cannot have this egress vector`, {
        remedy: "name a port with ACS and give one to eight words of 32 bits",
      });
    }
    const size = vector.length * 32 === 256 ? 0 : vector.length * 32;
    const capabilities = (fn.acs.capabilities & 0xff) | AcsBit.egressControl | (size << 8);
    const words = vector.slice(0, egressVectorWords(capabilities));
    return { ...fn, acs: { ...fn.acs, capabilities, egressVector: words } };
  });
}

/** Sets vendor and device id. */
export function setIds(
  machine: Machine,
  bdf: Bdf,
  ids: { readonly vendorId: number; readonly deviceId: number },
): Machine {
  return editFunction(machine, bdf, (fn) => ({
    ...fn,
    vendorId: ids.vendorId & 0xffff,
    deviceId: ids.deviceId & 0xffff,
    vendorName: null,
    deviceName: null,
    unknown: without(fn.unknown, "vendorId", "deviceId"),
  }));
}

/** Sets the command register: Memory Space Enable, Bus Master Enable. BARs follow it. */
export function setCommand(machine: Machine, bdf: Bdf, command: number): Machine {
  return editFunction(machine, bdf, (fn) => ({
    ...fn,
    command: command & 0xffff,
    bars: fn.bars.map((bar) => ({
      ...bar,
      enabled: bar.address !== 0 && (command & (bar.kind === "io" ? 1 : 2)) !== 0,
    })),
    unknown: without(fn.unknown, "command"),
  }));
}

/** Sets facts of the host: CPU, kernel, IOMMU mode. What is given replaces what was known. */
export function setHost(machine: Machine, facts: HostFacts): Machine {
  const { unknown: _gaps, ...known } = machine.host;
  return { ...machine, host: hostFrom(mergeHostFacts(facts, known)) };
}

/** A BAR to be added. */
export interface NewBar {
  /** 0 to 5; a 64-bit BAR takes the next one too. */
  readonly index: number;
  /** A power of two, at least 4096. */
  readonly sizeBytes: number;
  readonly prefetchable: boolean;
  /** `memory64` when not given. */
  readonly kind?: "memory32" | "memory64";
}

const slots = (bar: { readonly index: number; readonly kind: string }): number[] =>
  bar.kind === "memory64" ? [bar.index, bar.index + 1] : [bar.index];

/**
 * Gives a function one more memory BAR, without an address: {@link reassignWindows} gives it one.
 * Throws `bad-bar` for a size or an index that no BAR can have, `bar-taken` when the index is in
 * use.
 */
export function addBar(machine: Machine, bdf: Bdf, bar: NewBar): Machine {
  return editFunction(machine, bdf, (fn) => {
    const kind = bar.kind ?? "memory64";
    const wanted = slots({ index: bar.index, kind });
    const count = barCount(fn.headerType);
    const isSized =
      isPowerOfTwo(bar.sizeBytes) &&
      bar.sizeBytes >= 4096 &&
      bar.sizeBytes < (kind === "memory64" ? ADDRESS_LIMIT : 2 ** 31);
    if (
      !isSized ||
      wanted.some((index) => !Number.isInteger(index) || index < 0 || index >= count)
    ) {
      throw new UsageError("bad-bar", `no BAR ${bar.index} of ${bar.sizeBytes} bytes can be here`, {
        place: formatBdf(bdf),
        remedy: "sizes are powers of two from 4096; a 64-bit BAR takes two of the six registers",
      });
    }
    const clash = fn.bars.find((other) => slots(other).some((index) => wanted.includes(index)));
    if (clash !== undefined) {
      throw new UsageError("bar-taken", `BAR ${clash.index} is already there`, {
        place: `${formatBdf(bdf)} BAR ${clash.index}`,
        remedy: `free are ${freeSlots(fn).join(", ") || "none"}`,
      });
    }
    const added: Bar = {
      index: bar.index,
      kind,
      prefetchable: bar.prefetchable,
      address: 0,
      sizeBytes: bar.sizeBytes,
      enabled: false,
    };
    const bars = [...fn.bars, added].sort((a, b) => a.index - b.index);
    return { ...fn, bars };
  });
}

/** Indices of BAR registers that nothing uses; a 64-bit BAR needs two in a row. */
export function freeSlots(fn: PciFunction): number[] {
  const taken = new Set(fn.bars.flatMap(slots));
  return Array.from({ length: barCount(fn.headerType) }, (_, i) => i).filter((i) => !taken.has(i));
}

/**
 * Moves an endpoint below another port: same device and function number on the port's secondary
 * bus, BARs without addresses. {@link reassignWindows} for both places makes the machine whole
 * again. Throws `not-a-port`, `bdf-taken`, `not-an-endpoint`.
 */
export function moveFunction(
  machine: Machine,
  bdf: Bdf,
  port: Bdf,
): { readonly machine: Machine; readonly bdf: Bdf } {
  const index = new MachineIndex(machine);
  const fn = machine.functions[index.requireIndex(bdf)] as PciFunction;
  const bridge = (machine.functions[index.requireIndex(port)] as PciFunction).bridge;
  if (bridge === null || bridge.secondary === 0) {
    throw new UsageError("not-a-port", `${formatBdf(port)} is no port with a bus below it`, {
      remedy: "name a root port or a switch downstream port",
    });
  }
  if (fn.bridge !== null || (fn.sriov?.numVfs ?? 0) > 0 || fn.physicalFunction !== null) {
    throw new UsageError("not-an-endpoint", `${formatBdf(bdf)} cannot be moved alone`, {
      remedy: "move endpoints without virtual functions",
    });
  }
  const moved = makeBdf(bdfDomain(port), bridge.secondary, bdfDevice(bdf), bdfFunction(bdf));
  if (index.functionAt(moved) !== null) {
    throw new UsageError("bdf-taken", `${formatBdf(moved)} is already there`, {
      remedy: "name a port without a function of that number below it",
    });
  }
  const bars = fn.bars.map((bar) => ({ ...bar, address: 0, enabled: false }));
  const functions = machine.functions
    .filter((other) => other.bdf !== bdf)
    .concat(withFreshConfig({ ...fn, bdf: moved, bars }))
    .sort((a, b) => a.bdf - b.bdf);
  return { machine: { ...machine, functions }, bdf: moved };
}
