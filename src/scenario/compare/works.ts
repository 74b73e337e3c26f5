/**
 * What each description can and cannot do: every cell is the outcome of a run on the fabric, with
 * bytes written by the initiator's own port and read back from the owner's side. Nothing here is
 * typed in: a column is a procedure, the same for all five.
 *
 * Leaves out: what needs whole block devices (stacking.ts, protection.ts).
 */

import { busAddr, DmaStatus, PeerlaneError, physAddr } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import type { IommuMode, Machine } from "../../machine/index.ts";
import { Direction, LINEAR_MAPS, MAP_STATUS_NAMES } from "../../memory/index.ts";
import { Provider } from "../../p2p/index.ts";
import { type Cell, cellOf, no, type WorksColumn, yes } from "./cell.ts";
import { type CompareDescription, type Handle, openDescription } from "./descriptions.ts";
import { type CompareSetup, type CompareSubject, PROVIDER_BYTES, setUp } from "./setup.ts";

const IO_BYTES = 4096;

/** One write by the device, seen from the owner's side. */
function transfer(setup: CompareSetup, handle: Handle, device: DmaDevice, byte: number): Cell {
  const { memory, first } = handle;
  if (!handle.hold.begin(first + byte, IO_BYTES)) return no("refused: provider is going");
  const address = memory.map(device.id, first + byte, IO_BYTES, Direction.toMemory);
  if (address < 0) {
    handle.hold.end(first + byte, IO_BYTES);
    return no(`refused: ${MAP_STATUS_NAMES[-address]}`);
  }
  const cell = writeAndCheck(setup, device, address, byte);
  if (memory.needsUnmap) memory.unmap(device.id, address, IO_BYTES);
  handle.hold.end(first + byte, IO_BYTES);
  return cell;
}

function writeAndCheck(
  setup: CompareSetup,
  device: DmaDevice,
  address: number,
  byte: number,
): Cell {
  const sent = Uint8Array.from({ length: IO_BYTES }, (_, i) => (i * 7 + byte / IO_BYTES) & 0xff);
  const status = setup.port(device).write(address, sent, 0, IO_BYTES);
  if (status !== DmaStatus.ok) return no("the fabric stopped the write");
  const seen = new Uint8Array(IO_BYTES);
  setup.fabric.peek(setup.subject.owner, setup.subject.bar, byte, seen);
  const isSame = seen.every((value, i) => value === sent[i]);
  return isSame ? yes("bytes arrived") : { outcome: "unsafe", detail: "bytes went elsewhere" };
}

/** The columns that this machine can run. */
export function worksColumns(machine: Machine, subject: CompareSubject): WorksColumn[] {
  const columns: WorksColumn[] = [];
  const fresh = (mode: IommuMode): CompareSetup => setUp(machine, subject, mode);
  const modes: readonly IommuMode[] = ["off", "passthrough", "strict"];
  for (const mode of modes) {
    columns.push({
      name: `by bus, IOMMU ${mode}`,
      what: "one initiator below the owner's switch writes, the owner sees the bytes",
      run: (kind) => cellOf(() => oneTransfer(kind, fresh(mode), "near")),
    });
  }
  for (const mode of subject.far === null ? [] : modes) {
    columns.push({
      name: `host bridge, IOMMU ${mode}`,
      what: "the same by an initiator that reaches the owner through the host bridge",
      run: (kind) => cellOf(() => oneTransfer(kind, fresh(mode), "far")),
    });
  }
  if (subject.far !== null) {
    columns.push(
      {
        name: "two initiators",
        what: "memory opened for both; the second, behind the host bridge (strict), uses it too",
        run: (kind) => cellOf(() => secondInitiator(kind, fresh("strict"), true)),
      },
      {
        name: "keeps strangers out",
        what: "memory opened for one; another that has a route asks for its address. yes: refused",
        run: (kind) => cellOf(() => secondInitiator(kind, fresh("strict"), false)),
      },
    );
  }
  columns.push(
    {
      name: "BAR of 512 KiB",
      what: "the provider is 512 KiB, as a small CMB",
      run: (kind) => cellOf(() => oneTransfer(kind, fresh("off"), "near", 512 * 1024)),
    },
    {
      name: "linear maps",
      what: "how many of the known linear maps admit the owner's BAR at its address",
      run: (kind) => cellOf(() => linearMaps(kind, fresh("off"))),
    },
    {
      name: "BAR at 2^50",
      what: "registered there (POWER9 has its windows near) under a linear map of x86-64",
      run: (kind) => cellOf(() => highBar(kind, fresh("off"))),
    },
    {
      name: "revoke while busy",
      what: "the provider is torn down while an I/O is in flight; then another I/O starts",
      run: (kind) => cellOf(() => revokeWhileBusy(kind, fresh("off"))),
    },
    {
      name: "CPU copies payload",
      what: "the memory lends its bytes to the CPU; no: the I/O must not need that",
      run: (kind) => cellOf(() => cpuAccess(kind, fresh("off"))),
    },
  );
  return columns;
}

function oneTransfer(
  kind: CompareDescription,
  setup: CompareSetup,
  who: "near" | "far",
  sizeBytes = PROVIDER_BYTES,
): Cell {
  const device = setup[who] as DmaDevice;
  const handle = openDescription(kind, setup, setup.provider(sizeBytes), [device]);
  return transfer(setup, handle, device, sizeBytes - IO_BYTES);
}

function secondInitiator(kind: CompareDescription, setup: CompareSetup, isMeant: boolean): Cell {
  const far = setup.far as DmaDevice;
  const initiators = isMeant ? [setup.near, far] : [setup.near];
  const handle = openDescription(kind, setup, setup.provider(), initiators);
  const first = transfer(setup, handle, setup.near, 0);
  if (first.outcome !== "yes") return first;
  const second = transfer(setup, handle, far, IO_BYTES);
  if (isMeant) return second;
  if (second.outcome === "no") return yes(second.detail);
  return { outcome: "unsafe", detail: "got an address of its own, unasked" };
}

/** Registers where the machine has the BAR, once under each architecture's map. */
function linearMaps(kind: CompareDescription, setup: CompareSetup): Cell {
  const refused: string[] = [];
  for (const linearMap of LINEAR_MAPS) {
    const provider = setup.provider();
    try {
      openDescription(kind, setup, provider, [setup.near], { linearMap });
    } catch (error) {
      if (!(error instanceof PeerlaneError)) throw error;
      refused.push(`${linearMap.name}: ${error.code}`);
    }
  }
  const detail = `${LINEAR_MAPS.length - refused.length} of ${LINEAR_MAPS.length}`;
  if (refused.length === 0) return yes(detail);
  const outcome = refused.length < LINEAR_MAPS.length ? "partly" : "no";
  return { outcome, detail: `${detail}; not ${refused.join(", ")}` };
}

function highBar(kind: CompareDescription, setup: CompareSetup): Cell {
  const { owner, bar } = setup.subject;
  const [phys, bus] = [physAddr(2 ** 50), busAddr(2 ** 50)];
  const range = { owner, bar, barOffset: 0, phys, bus, sizeBytes: PROVIDER_BYTES };
  const { memory, first } = openDescription(kind, setup, new Provider(range), [setup.near]);
  const address = memory.map(setup.near.id, first, IO_BYTES, Direction.both);
  return address === 2 ** 50 ? yes("registered and mapped") : no("not mapped to its address");
}

async function revokeWhileBusy(kind: CompareDescription, setup: CompareSetup): Promise<Cell> {
  const provider = setup.provider();
  const handle = openDescription(kind, setup, provider, [setup.near]);
  const { memory, first } = handle;
  const { near } = setup;
  handle.hold.begin(first, IO_BYTES);
  const address = memory.map(near.id, first, IO_BYTES, Direction.toMemory);
  const ending = handle.takeAway();
  await settle();
  const waited = provider.state !== "dead";
  const late = writeAndCheck(setup, near, address, 0);
  const next = transfer(setup, handle, near, IO_BYTES);
  if (memory.needsUnmap) memory.unmap(near.id, address, IO_BYTES);
  handle.hold.end(first, IO_BYTES);
  await ending;
  const after = transfer(setup, handle, near, 2 * IO_BYTES);
  const facts = [
    waited ? "waits for the I/O in flight" : "does not wait",
    next.outcome === "no" ? "new I/O refused" : "new I/O goes on",
  ];
  if (!waited && late.outcome === "yes") facts.push("the I/O in flight wrote to released memory");
  if (after.outcome === "yes") facts.push("still maps when all is over");
  const isSafe = waited && next.outcome === "no" && after.outcome === "no";
  return { outcome: isSafe ? "yes" : "unsafe", detail: facts.join("; ") };
}

/** Lets what was started go as far as it can without I/O: a few turns of the microtask queue. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

async function cpuAccess(kind: CompareDescription, setup: CompareSetup): Promise<Cell> {
  const { memory } = openDescription(kind, setup, setup.provider(), [setup.near]);
  return memory.cpuAccessible ? yes("lends its bytes") : no("refused: out of the CPU's reach");
}
