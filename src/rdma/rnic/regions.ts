/**
 * Protection domains and memory regions of the model RNIC: any description of memory is mapped for
 * the device and its DMA addresses go into the device's translation table.
 *
 * Invariants: what was mapped is unmapped only after the device forgot the region. A region over
 * memory that can be taken back (a lease) counts as I/O in flight on it: the region is made invalid
 * in the device first, and then taking it back goes on.
 */

import {
  formatBdf,
  hex,
  PeerlaneError,
  RNIC_MR_RANGES_MAX,
  setU64LE,
  type Tree,
  viewOf,
} from "../../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../../dma/index.ts";
import {
  Direction,
  type DmaBuf,
  type IoMemory,
  isHoldable,
  MAP_STATUS_NAMES,
} from "../../memory/index.ts";
import {
  Access,
  CREATE_MR_IN,
  MAILBOX_RANGES,
  MAILBOX_RANGES_MAX,
  Range,
  RnicCommand,
} from "../../spec/rdma/index.ts";
import type { AsyncEvent, DmaBufMrOptions, MemoryVector, Mr, Pd, VerbsDevice } from "../verbs.ts";
import type { RnicControl } from "./control.ts";
import { RnicDmaBufMr } from "./dma-buf-region.ts";
import { type RegionPd, RnicRegion } from "./region.ts";

/** What domains and regions need of their device. */
export interface RegionOwner extends VerbsDevice {
  readonly control: RnicControl;
  forgetPd(pd: RnicPd): void;
  /** A failure that nobody waits for. */
  report(event: AsyncEvent): void;
}

/** One mapped vector. */
interface Mapping {
  readonly memory: IoMemory;
  readonly address: number;
  readonly length: number;
}

class RnicMr extends RnicRegion {
  private readonly mappings: readonly Mapping[];

  constructor(
    pd: RegionPd,
    key: number,
    address: number,
    access: number,
    mappings: readonly Mapping[],
  ) {
    super(pd, address, bytesOf(mappings), access);
    this.lkey = key;
    this.valid = true;
    this.mappings = mappings;
    for (const { memory } of mappings) {
      if (isHoldable(memory)) memory.onRevoke(() => this.revoked());
    }
  }

  protected letGo(): void {
    unmapAll(this.pd.dma, this.mappings);
  }

  private revoked(): void {
    this.deregister().catch(() => this.reportFatal());
  }

  override inspect(): Tree {
    return { ...super.inspect(), memory: this.mappings.map(({ memory }) => memory.inspect()) };
  }
}

const bytesOf = (mappings: readonly Mapping[]): number =>
  mappings.reduce((sum, { length }) => sum + length, 0);

function unmapAll(dma: DmaDevice, mappings: readonly Mapping[]): void {
  for (const { memory, address, length } of mappings) {
    if (memory.needsUnmap) memory.unmap(dma.id, address, length);
    if (isHoldable(memory)) memory.end();
  }
}

export class RnicPd implements Pd {
  readonly number: number;
  readonly device: RegionOwner;
  readonly control: RnicControl;
  readonly dma: DmaDevice;
  readonly localDmaLkey: number;
  private readonly regions = new Set<Mr>();

  constructor(device: RegionOwner, number: number, localDmaLkey: number) {
    this.device = device;
    this.control = device.control;
    this.dma = device.dma;
    this.number = number;
    this.localDmaLkey = localDmaLkey;
  }

  registerMemory(mem: IoMemory, offset: number, length: number, access: number): Promise<Mr> {
    return this.registerVectors([{ memory: mem, offset, length }], access);
  }

  async registerVectors(vectors: readonly MemoryVector[], access: number): Promise<Mr> {
    if (vectors.length === 0 || vectors.length > RNIC_MR_RANGES_MAX) {
      throw new PeerlaneError("mr-map", `a region of ${vectors.length} vectors cannot be`, {
        remedy: `register 1 to ${RNIC_MR_RANGES_MAX} vectors`,
      });
    }
    const mappings = this.mapAll(vectors, access);
    const [first] = mappings as [Mapping];
    try {
      const key = await this.create(mappings, access, first.address);
      const region = new RnicMr(this, key, first.address, access, mappings);
      this.regions.add(region);
      return region;
    } catch (error) {
      unmapAll(this.dma, mappings);
      throw error;
    }
  }

  async registerDmaBuf(buffer: DmaBuf, options: DmaBufMrOptions): Promise<Mr> {
    const region = await RnicDmaBufMr.register(this, buffer, options);
    this.regions.add(region);
    return region;
  }

  async allocFastMr(): Promise<Mr> {
    const input = { pd: this.number, rangeCount: 1, fastRegister: 1 };
    const key = await this.control.create(RnicCommand.createMr, CREATE_MR_IN, input);
    const region = new RnicMr(this, key, 0, 0, []);
    this.regions.add(region);
    return region;
  }

  /** Maps every vector for the device, or none. */
  private mapAll(vectors: readonly MemoryVector[], access: number): Mapping[] {
    const direction = (access & Access.localWrite) === 0 ? Direction.fromMemory : Direction.both;
    const done: Mapping[] = [];
    for (const { memory, offset, length } of vectors) {
      const held = !isHoldable(memory) || memory.begin();
      const address = held ? memory.map(this.dma.id, offset, length, direction) : -2;
      if (address < 0) {
        if (held && isHoldable(memory)) memory.end();
        unmapAll(this.dma, done);
        const reason = MAP_STATUS_NAMES[-address] ?? String(address);
        throw new PeerlaneError("mr-map", `memory cannot be registered: ${reason}`, {
          place: formatBdf(this.dma.bdf),
          remedy: "derive the memory for this device, and register it while its provider lives",
          details: { mapStatus: -address, offset, length },
        });
      }
      done.push({ memory, address, length });
    }
    return done;
  }

  private async create(
    mappings: readonly Mapping[],
    access: number,
    address: number,
  ): Promise<number> {
    const small = mappings.length <= MAILBOX_RANGES_MAX;
    const list: DmaBuffer | null = small
      ? null
      : this.dma.allocCoherent(mappings.length * Range.sizeBytes);
    const fill = (): void => {
      const view = viewOf(list?.bytes ?? this.control.mailboxBytes);
      mappings.forEach((mapping, i) => {
        const at = (list === null ? MAILBOX_RANGES : 0) + i * Range.sizeBytes;
        setU64LE(view, at + Range.address, mapping.address);
        setU64LE(view, at + Range.length, mapping.length);
      });
    };
    const input = {
      pd: this.number,
      access,
      address,
      length: bytesOf(mappings),
      rangeCount: mappings.length,
      fastRegister: 0,
      ranges: list?.dma ?? this.control.mailboxAddress + MAILBOX_RANGES,
    };
    try {
      return await this.control.create(RnicCommand.createMr, CREATE_MR_IN, input, fill);
    } finally {
      if (list !== null) this.dma.freeCoherent(list);
    }
  }

  forget(region: Mr): void {
    this.regions.delete(region);
  }

  /** Deregisters what is left, when the device closes. */
  async release(): Promise<void> {
    for (const region of [...this.regions]) await region.deregister();
  }

  async dealloc(): Promise<void> {
    await this.control.about(RnicCommand.deallocPd, this.number);
    this.device.forgetPd(this);
  }

  inspect(): Tree {
    return {
      number: this.number,
      localDmaLkey: hex(this.localDmaLkey),
      regions: [...this.regions].map((region) => region.inspect()),
    };
  }
}
