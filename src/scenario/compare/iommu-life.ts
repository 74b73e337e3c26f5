/**
 * What the IOMMU of each group is asked for over the life of a memory under a strict IOMMU: when it
 * is opened for two initiators, per I/O of either, and when it is taken away. A lease keeps its
 * IOVA mapped for its life; what is mapped per I/O is also flushed per I/O.
 *
 * Leaves out: the groups of devices that take no part.
 */

import { PeerlaneError } from "../../core/index.ts";
import type { DmaDevice, DomainCounts } from "../../dma/index.ts";
import type { Machine } from "../../machine/index.ts";
import { Direction } from "../../memory/index.ts";
import { type CompareDescription, type Handle, openDescription } from "./descriptions.ts";
import { type CompareSetup, type CompareSubject, setUp } from "./setup.ts";

const IOS = 64;
const IO_BYTES = 4096;

/** Maps, unmaps and flushes. */
export type IommuCounts = readonly [number, number, number];

export interface IommuLifeRow {
  readonly description: CompareDescription;
  readonly route: "bus" | "host-bridge";
  /** IOMMU group of the initiator. */
  readonly group: number;
  /** Null where the description refuses; {@link refusal} says why. */
  readonly opening: IommuCounts | null;
  readonly perIo: IommuCounts | null;
  readonly closing: IommuCounts | null;
  /** IOVA space that is taken while nothing is in flight. */
  readonly idleIovaBytes: number;
  readonly refusal: string | null;
}

/** One row per initiator, each in a group of its own. */
export async function iommuLife(
  kind: CompareDescription,
  machine: Machine,
  subject: CompareSubject,
): Promise<IommuLifeRow[]> {
  const rows: IommuLifeRow[] = [];
  for (const route of ["bus", "host-bridge"] as const) {
    const setup = setUp(machine, subject, "strict");
    const device = route === "bus" ? setup.near : setup.far;
    if (device !== null) rows.push(await life(kind, setup, device, route));
  }
  return rows;
}

async function life(
  description: CompareDescription,
  setup: CompareSetup,
  device: DmaDevice,
  route: IommuLifeRow["route"],
): Promise<IommuLifeRow> {
  const group = setup.fabric.iommu?.groupOf(device.bdf) ?? -1;
  const counts = (): DomainCounts | undefined =>
    setup.context.domains().find((domain) => domain.group === group);
  const none = { opening: null, perIo: null, closing: null, idleIovaBytes: 0 };
  const start = counts();
  let handle: Handle;
  try {
    handle = openDescription(description, setup, setup.provider(), [device]);
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    return { description, route, group, ...none, refusal: error.code };
  }
  const open = counts();
  for (let i = 0; i < IOS; i++) oneIo(handle, device, i * IO_BYTES);
  const used = counts();
  await handle.takeAway();
  return {
    description,
    route,
    group,
    opening: between(start, open, 1),
    perIo: between(open, used, IOS),
    closing: between(used, counts(), 1),
    idleIovaBytes: (used?.iovaBytesUsed ?? 0) - (start?.iovaBytesUsed ?? 0),
    refusal: null,
  };
}

function oneIo({ memory, first, hold }: Handle, device: DmaDevice, byte: number): void {
  const offset = first + byte;
  if (!hold.begin(offset, IO_BYTES))
    throw new PeerlaneError("provider-dying", "no hold on the memory");
  const address = memory.map(device.id, offset, IO_BYTES, Direction.toMemory);
  if (address < 0) throw new PeerlaneError("dma-map", "an I/O of the count was refused");
  if (memory.needsUnmap) memory.unmap(device.id, address, IO_BYTES);
  hold.end(offset, IO_BYTES);
}

function between(
  before: DomainCounts | undefined,
  after: DomainCounts | undefined,
  ios: number,
): IommuCounts {
  const difference = (key: "maps" | "unmaps" | "flushes"): number =>
    ((after?.[key] ?? 0) - (before?.[key] ?? 0)) / ios;
  return [difference("maps"), difference("unmaps"), difference("flushes")];
}
