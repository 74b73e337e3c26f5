/**
 * Block devices over the compared memory: the owner of a BAR, and NVMe controllers with our driver
 * on functions that reach it, one by bus address and one through the host bridge where the machine
 * has both. Real controller models behind real routes; where a dump has no SSD in such a place,
 * another function stands in for one, and the report says so.
 *
 * Leaves out: time (nothing waits for a link), the network.
 */

import { type Bio, BioPool, BioResult, type BlockQueue } from "../../block/index.ts";
import { type Bdf, bdfDomain, PeerlaneError, Span } from "../../core/index.ts";
import { DmaContext, type DmaDevice } from "../../dma/index.ts";
import {
  buildFabric,
  DeviceMemory,
  type Fabric,
  MemoryStore,
  NvmeModel,
  type NvmeModelOptions,
  type NvmeNamespaceOptions,
} from "../../fabric/index.ts";
import { deviceKind, type IommuMode, type Machine, type PciFunction } from "../../machine/index.ts";
import { NvmeController, type NvmeOptions } from "../../nvme/index.ts";
import { Provider, Rules, Topology } from "../../p2p/index.ts";
import type { Handle } from "./descriptions.ts";
import { type CompareSubject, isClient, PROVIDER_BYTES } from "./setup.ts";

/** Bytes of each leg. */
const LEG_BYTES = 8 * 2 ** 20;
/** Registers and doorbells of a controller with few queues. */
const REGISTER_BYTES = 8192;
const QUEUES = 2;
const ROUNDS_MAX = 100_000;

export interface Leg {
  readonly device: DmaDevice;
  readonly controller: NvmeController;
  readonly model: NvmeModel;
  readonly queue: NvmeController["namespaces"][number]["queue"];
}

export interface StackOptions {
  readonly legs: readonly Bdf[];
  readonly mode: IommuMode;
  /** The namespace of each leg, besides its size. */
  readonly namespace?: NvmeNamespaceOptions;
  /** One namespace behind all controllers. */
  readonly isShared?: boolean;
  readonly driver?: NvmeOptions;
  /** Faults of leg `i`. */
  readonly faults?: (i: number) => NvmeModelOptions["faults"];
}

function ableFunctions(machine: Machine, owner: Bdf): PciFunction[] {
  return machine.functions.filter(
    (fn) => fn.bdf !== owner && isClient(fn) && registerBytes(fn) >= REGISTER_BYTES,
  );
}

/** Functions that may stand as the two legs: by bus, then through the host bridge. */
export function chooseLegs(machine: Machine, owner: Bdf): readonly Bdf[] {
  const rules = new Rules(new Topology(machine));
  const able = ableFunctions(machine, owner);
  const first = (route: string): Bdf | null => {
    const found = able.filter(({ bdf }) => rules.verdict(owner, bdf).route === route);
    return (found.find((fn) => deviceKind(fn) === "nvme") ?? found[0])?.bdf ?? null;
  };
  const legs = [first("bus"), first("host-bridge")];
  return legs.filter((bdf) => bdf !== null);
}

/**
 * Functions for which an address made for a leg by bus was not made: one that reaches the owner
 * through the host bridge, and the first SSD of every other PCI domain.
 */
export function chooseStrangers(machine: Machine, owner: Bdf): readonly Bdf[] {
  const strangers = new Map<number, Bdf>();
  for (const fn of ableFunctions(machine, owner)) {
    const domain = bdfDomain(fn.bdf);
    if (domain === bdfDomain(owner) || deviceKind(fn) !== "nvme") continue;
    if (!strangers.has(domain)) strangers.set(domain, fn.bdf);
  }
  return [...chooseLegs(machine, owner).slice(1), ...strangers.values()];
}

function registerBytes(fn: PciFunction): number {
  const bar = fn.bars.find(({ index }) => index === 0);
  const isMemory = bar !== undefined && bar.kind !== "io" && bar.address !== 0;
  return isMemory ? (bar.sizeBytes ?? 0) : 0;
}

export class StackSetup {
  readonly mode: IommuMode;
  readonly fabric: Fabric;
  readonly context: DmaContext;
  readonly rules: Rules;
  readonly subject: CompareSubject;
  readonly legs: readonly Leg[];
  private readonly memory: DeviceMemory;
  private readonly pool = new BioPool(4, 4);

  private constructor(
    mode: IommuMode,
    fabric: Fabric,
    context: DmaContext,
    rules: Rules,
    subject: CompareSubject,
    legs: readonly Leg[],
    memory: DeviceMemory,
  ) {
    this.mode = mode;
    this.fabric = fabric;
    this.context = context;
    this.rules = rules;
    this.subject = subject;
    this.legs = legs;
    this.memory = memory;
  }

  static async open(
    machine: Machine,
    subject: CompareSubject,
    options: StackOptions,
  ): Promise<StackSetup> {
    const models = new Map<Bdf, NvmeModel>();
    let shared: MemoryStore | null = null;
    let memory: DeviceMemory | null = null;
    const fabric = buildFabric(machine, {
      iommu: options.mode,
      model: (fn, { copier, barSizes }) => {
        if (fn.bdf === subject.owner) {
          memory = new DeviceMemory({ copier, barSizes });
          return memory;
        }
        const leg = options.legs.indexOf(fn.bdf);
        if (leg < 0) return null;
        if (options.isShared === true) shared ??= new MemoryStore(LEG_BYTES, copier);
        const faults = options.faults?.(leg);
        const model = new NvmeModel({
          copier,
          maxQueues: QUEUES,
          namespaces: [
            {
              sizeBytes: LEG_BYTES,
              ...(shared === null ? {} : { store: shared, shared: true }),
              ...options.namespace,
            },
          ],
          ...(faults === undefined ? {} : { faults }),
        });
        models.set(fn.bdf, model);
        return model;
      },
    });
    const context = new DmaContext(fabric, { iommu: options.mode, snapshot: machine });
    const legs: Leg[] = [];
    for (const bdf of options.legs) {
      const device = context.device(bdf);
      const controller = await NvmeController.attach(device, options.driver);
      const [{ queue }] = controller.namespaces;
      legs.push({ device, controller, model: models.get(bdf) as NvmeModel, queue });
    }
    if (memory === null) throw noOwner();
    const rules = new Rules(new Topology(machine));
    return new StackSetup(options.mode, fabric, context, rules, subject, legs, memory);
  }

  provider(sizeBytes = PROVIDER_BYTES): Provider {
    const { owner, bar } = this.subject;
    return Provider.fromBar(this.fabric.open(owner), bar, { sizeBytes });
  }

  get devices(): readonly DmaDevice[] {
    return this.legs.map(({ device }) => device);
  }

  /** One bio of one vector over the described memory, to its end. Returns its status. */
  io(queue: BlockQueue, op: number, sector: number, handle: Handle, part: Part): number {
    const { byte, length } = part;
    const offset = handle.first + byte;
    if (!handle.hold.begin(offset, length))
      throw new PeerlaneError("provider-dying", "no hold on it");
    const bio = this.pool.acquire() as Bio;
    const result = new BioResult();
    bio.op = op;
    bio.sector = sector;
    bio.owner = result;
    bio.addMemory(handle.memory, offset, length);
    queue.submit(bio);
    queue.kick();
    this.runUntil(queue, () => result.done > 0);
    handle.hold.end(offset, length);
    this.pool.release(bio);
    return result.status;
  }

  private runUntil(queue: BlockQueue, done: () => boolean): void {
    for (let round = 0; round < ROUNDS_MAX && !done(); round++) {
      this.fabric.poll();
      for (const { controller } of this.legs) controller.poll();
      queue.poll();
    }
    if (!done()) throw new PeerlaneError("reactor-idle", "an I/O never ended");
  }

  /** Writes bytes into the owner's memory, from the owner's side. */
  fill(byte: number, data: Uint8Array): void {
    this.memory.memories[this.subject.bar]?.write(byte, data, 0, data.length);
  }

  /** What the owner sees. */
  peek(byte: number, length: number): Uint8Array {
    const seen = new Uint8Array(length);
    this.fabric.peek(this.subject.owner, this.subject.bar, byte, seen);
    return seen;
  }

  /**
   * Metadata of one block of a leg, from the medium. The model keeps its complement there, so that
   * what was never written reads as all ones.
   */
  metadata(leg: number, lba: number, length: number): Uint8Array {
    const { metadataBase, metadataBytes } = this.legs[leg].model.namespaces[0];
    return this.medium(leg, metadataBase + lba * metadataBytes, length).map((byte) => ~byte);
  }

  /** What is on the medium of a leg. */
  medium(leg: number, offset: number, length: number): Uint8Array {
    const { store } = this.legs[leg].model.namespaces[0];
    const seen = new Uint8Array(length);
    const span = new Span();
    for (let done = 0; done < length; ) {
      store.lend(offset + done, length - done, span);
      const bytes = Math.min(span.length, length - done);
      seen.set(span.bytes.subarray(span.offset, span.offset + bytes), done);
      done += bytes;
    }
    return seen;
  }

  /** Puts bytes on the medium of a leg, from its first on. */
  fillMedium(leg: number, data: Uint8Array): void {
    const { store } = this.legs[leg].model.namespaces[0];
    const span = new Span();
    for (let done = 0; done < data.length; ) {
      store.lendForWrite(done, data.length - done, span);
      const bytes = Math.min(span.length, data.length - done);
      span.bytes.set(data.subarray(done, done + bytes), span.offset);
      store.commit(done, bytes, span);
      done += bytes;
    }
  }

  /** Flips a bit of the medium, behind the controller's back. */
  damage(leg: number, offset: number): void {
    const { store } = this.legs[leg].model.namespaces[0];
    const span = new Span();
    store.lendForWrite(offset, 1, span);
    span.bytes[span.offset] ^= 1;
    store.commit(offset, 1, span);
  }
}

/** Bytes of the described memory, from its first. */
export interface Part {
  readonly byte: number;
  readonly length: number;
}

const noOwner = (): PeerlaneError =>
  new PeerlaneError("no-such-function", "the owner of the memory is not in this machine");

/** Bytes that say where they belong. */
export function patternBytes(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed * 31) & 0xff);
}
