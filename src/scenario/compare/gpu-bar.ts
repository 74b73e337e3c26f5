/**
 * The memory of a GPU: the owner is a GPU model with our driver, the provider a buffer in its VRAM
 * behind the aperture BAR. A peer writes through the description, and the GPU says what it saw: its
 * own kernel makes the checksum, inside VRAM.
 *
 * Leaves out: moving the window while a description is open (docs/rooms/gpu.md).
 */

import { crc32c, DmaStatus, PeerlaneError, Reactor } from "../../core/index.ts";
import { DmaContext } from "../../dma/index.ts";
import { buildFabric, gpuModelFor } from "../../fabric/index.ts";
import { GpuDevice } from "../../gpu/index.ts";
import type { Machine } from "../../machine/index.ts";
import { Direction, MAP_STATUS_NAMES, SUBSECTION_BYTES } from "../../memory/index.ts";
import { Provider, Rules, Topology } from "../../p2p/index.ts";
import { type Cell, cellOf, no, type WorksColumn, yes } from "./cell.ts";
import { type CompareDescription, openDescription } from "./descriptions.ts";
import { type CompareSubject, PortKeeper } from "./setup.ts";
import { patternBytes } from "./stack-setup.ts";

const IO_BYTES = 4096;
/** Of the buffer: not at its start, where a wrong offset would not show. */
const AT = 3 * IO_BYTES;

/** The column. Where the owner's BARs cannot be a GPU's its cells say `no-gpu`. */
export function gpuColumns(machine: Machine, subject: CompareSubject): WorksColumn[] {
  return [
    {
      name: "GPU BAR",
      what: "a peer writes into VRAM through its BAR; the GPU's own kernel makes the checksum",
      run: (kind) => cellOf(() => gpuBar(kind, machine, subject)),
    },
  ];
}

async function gpuBar(
  kind: CompareDescription,
  machine: Machine,
  subject: CompareSubject,
): Promise<Cell> {
  const { owner, near } = subject;
  let keeper: PortKeeper | null = null;
  const fabric = buildFabric(machine, {
    iommu: "off",
    model: (fn, tools) => {
      if (fn.bdf === owner) return gpuModelFor(tools);
      if (fn.bdf !== near) return null;
      keeper = new PortKeeper({ copier: tools.copier, barSizes: tools.barSizes });
      return keeper;
    },
  });
  const context = new DmaContext(fabric, { iommu: "off", snapshot: machine });
  const rules = new Rules(new Topology(machine));
  const gpu = GpuDevice.attach(context.device(owner));
  const reactor = new Reactor();
  reactor.add(fabric);
  reactor.add(gpu);
  const buffer = gpu.allocate(SUBSECTION_BYTES);
  const part = { offset: gpu.apertureOffset(buffer), sizeBytes: SUBSECTION_BYTES };
  const provider = Provider.fromBar(fabric.open(owner), gpu.aperture.bar, part);
  const device = context.device(near);
  const { memory, first, hold } = openDescription(kind, { context, rules }, provider, [device]);
  const offset = first + AT;
  if (!hold.begin(offset, IO_BYTES)) return no("refused: provider is going");
  const address = memory.map(device.id, offset, IO_BYTES, Direction.toMemory);
  if (address < 0) return no(`refused: ${MAP_STATUS_NAMES[-address]}`);
  const sent = patternBytes(IO_BYTES, 5);
  const port = (keeper as PortKeeper | null)?.port ?? null;
  if (port === null) throw new PeerlaneError("no-such-function", "the peer has no port");
  const status = port.write(address, sent, 0, IO_BYTES);
  if (memory.needsUnmap) memory.unmap(device.id, address, IO_BYTES);
  hold.end(offset, IO_BYTES);
  if (status !== DmaStatus.ok) return no("the fabric stopped the write");
  const seen = await reactor.settle(gpu.crc32c(buffer, AT, IO_BYTES), "the GPU's checksum");
  return seen === crc32c(sent)
    ? yes("the GPU's checksum is that of the bytes sent")
    : { outcome: "unsafe", detail: "the GPU sees other bytes" };
}
