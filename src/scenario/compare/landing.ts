/**
 * Where the bytes land when nothing asks again: raid0 over bare DMA addresses as the RFC posted
 * them, which checked a queue flag when a vector was added and never for whom the address was. The
 * one thing changed is that the memory answers everybody; queues, drivers, controllers and the
 * fabric are the same as in every other run.
 *
 * A disk read of two chunks: the first leg writes the first one to the address made for it, the
 * second leg the second one, to an address that means something else to it, or nothing. Where that
 * is comes from the fabric's own route, and the bytes are looked for there.
 */

import { BioOp, blockStatusName, Raid0Queue } from "../../block/index.ts";
import {
  ADDRESS_LIMIT,
  type Bdf,
  DmaStatus,
  formatBdf,
  hex,
  PeerlaneError,
  physAddr,
  type Span,
  sameBytes,
  type Tree,
} from "../../core/index.ts";
import type { RouteReport } from "../../fabric/index.ts";
import type { IommuMode, Machine } from "../../machine/index.ts";
import {
  type Direction,
  type InitiatorId,
  type IoMemory,
  MapStatus,
  MemoryKind,
} from "../../memory/index.ts";
import { Rules, Topology } from "../../p2p/index.ts";
import { NoHold } from "./descriptions.ts";
import type { CompareSubject } from "./setup.ts";
import { patternBytes, StackSetup } from "./stack-setup.ts";

const CHUNK = 64 * 1024;
const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

/** The RFC's vector: an address, and nobody who could say for whom. */
class UncheckedAddress implements IoMemory {
  readonly kind = MemoryKind.dmaAddress;
  readonly cpuAccessible = false;
  readonly needsUnmap = false;
  map(_initiator: InitiatorId, offset: number, length: number, _direction: Direction): number {
    return offset + length <= ADDRESS_LIMIT ? offset : -MapStatus.outOfRange;
  }
  unmap(): void {}
  limitAddress(offset: number): number {
    return offset;
  }
  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }
  inspect(): Tree {
    return { kind: "dma-address, nobody asks again" };
  }
}

export interface LandingRow {
  readonly machine: string;
  readonly iommu: IommuMode;
  /** Whose device the address was made for, and who used it. */
  readonly madeFor: string;
  readonly usedBy: string;
  readonly address: string;
  /** What the bio ended with. */
  readonly status: string;
  /** Where the second leg's bytes went. */
  readonly landed: string;
  /** `right`: the owner has them all the same; `corrupts`: somebody else has; `lost`: nobody. */
  readonly outcome: "right" | "corrupts" | "lost";
}

/** All modes, for a first leg that is reached by bus and each of the others. */
export async function landings(
  machine: Machine,
  subject: CompareSubject,
  first: Bdf,
  others: readonly Bdf[],
): Promise<LandingRow[]> {
  const { route } = new Rules(new Topology(machine)).verdict(subject.owner, first);
  if (route !== "bus") {
    throw new PeerlaneError("no-route", "the RFC derives bus addresses only", {
      place: formatBdf(first),
      remedy: "take a first leg below the owner's switch",
    });
  }
  const rows: LandingRow[] = [];
  for (const other of others) {
    for (const mode of MODES) rows.push(await land(machine, subject, [first, other], mode));
  }
  return rows;
}

async function land(
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
  mode: IommuMode,
): Promise<LandingRow> {
  const setup = await StackSetup.open(machine, subject, { legs, mode });
  const queue = new Raid0Queue(
    setup.legs.map((leg) => leg.queue),
    { chunkBytes: CHUNK },
  );
  const chunks = [patternBytes(CHUNK, 3), patternBytes(CHUNK, 4)];
  chunks.forEach((bytes, leg) => {
    setup.fillMedium(leg, bytes);
  });
  const first = setup.provider().busAt(0);
  const handle = {
    memory: new UncheckedAddress(),
    first,
    registeredBytes: 0,
    routes: null,
    translatedAtOpening: 0,
    hold: new NoHold(),
    takeAway: () => Promise.resolve(),
  };
  const stray = first + CHUNK;
  const route = setup.fabric.route(legs[1], stray, "write");
  const status = setup.io(queue, BioOp.read, 0, handle, { byte: 0, length: 2 * CHUNK });
  const isRight = sameBytes(setup.peek(CHUNK, CHUNK), chunks[1]);
  return {
    machine: machine.name,
    iommu: mode,
    madeFor: formatBdf(legs[0]),
    usedBy: formatBdf(legs[1]),
    address: hex(stray),
    status: blockStatusName(status),
    ...whereTo(setup, route, chunks[1], isRight),
  };
}

function whereTo(
  setup: StackSetup,
  route: RouteReport,
  bytes: Uint8Array,
  isRight: boolean,
): Pick<LandingRow, "landed" | "outcome"> {
  if (isRight) return { landed: `${placeOf(route)}: the owner's memory`, outcome: "right" };
  if (route.status !== DmaStatus.ok || route.target === null) {
    const last = route.hops.at(-1);
    return { landed: `nowhere: ${route.statusName}, ${last?.reason ?? ""}`, outcome: "lost" };
  }
  const { kind, bdf, bar, offset } = route.target;
  const seen = new Uint8Array(bytes.length);
  if (kind === "bar" && bdf !== null && bar !== null) setup.fabric.peek(bdf, bar, offset, seen);
  else if (kind === "host-memory") setup.fabric.peekHost(physAddr(offset), seen);
  const isThere = sameBytes(seen, bytes);
  const found = isThere ? `all ${bytes.length} bytes found there` : "not found there";
  return { landed: `${placeOf(route)}: ${found}`, outcome: isThere ? "corrupts" : "lost" };
}

function placeOf({ target }: RouteReport): string {
  if (target === null) return "nowhere";
  const { kind, bdf, bar, offset } = target;
  return bdf === null
    ? `${kind} at ${hex(offset)}`
    : `${formatBdf(bdf)} BAR${bar} + ${hex(offset)}`;
}
