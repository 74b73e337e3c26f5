/**
 * What is behind the namespaces of a served target: stores (memory, files), which the CPU copies
 * from and to, or which are in the model of one SSD, reached through its driver. Namespaces come
 * and go while it runs: the model attaches one, the driver looks again, a block queue is there.
 *
 * Invariants: a file is open exactly as long as its namespace is there; a path is used once, since
 * two namespaces over one file would each believe that it is alone.
 */

import type { BlockQueue } from "../../block/index.ts";
import {
  type Bdf,
  Copier,
  type NamespaceStore,
  PeerlaneError,
  type Poller,
  type Tree,
} from "../../core/index.ts";
import { DmaContext, type DmaDevice } from "../../dma/index.ts";
import { buildFabric, type Fabric, FileStore, MemoryStore, NvmeModel } from "../../fabric/index.ts";
import { deviceKind, type Machine, type PciFunction } from "../../machine/index.ts";
import { NvmeController } from "../../nvme/index.ts";
import { StoreQueue } from "../../nvmet/index.ts";
import { type BlockFile, FileStatus, openBlockFile } from "../../platform/index.ts";
import { giveCmb } from "../prepare.ts";
import type { NamespaceConfig } from "./schema.ts";

/** One namespace's block device. */
export interface Backend {
  readonly queue: BlockQueue & { readonly isIdle: boolean };
  /** What does its DMA; empty: the CPU moves the data. */
  readonly initiators: readonly DmaDevice[];
  readonly sizeBytes: number;
}

interface Shelved {
  /** In the model; null: not there. */
  readonly nsid: number | null;
  readonly file: BlockFile | null;
}

const SIZE_UNIT = 4096;

/** The NVMe controller to use: `wanted`, or the first that the dump tells enough of. */
export function chooseSsd(machine: Machine, wanted: Bdf | undefined): PciFunction {
  const usable = machine.functions.filter((fn) => {
    const bar = fn.bars.find(({ index }) => index === 0);
    const hasRegisters = bar !== undefined && bar.address !== 0 && bar.sizeBytes !== null;
    return deviceKind(fn) === "nvme" && fn.physicalFunction === null && hasRegisters;
  });
  const found = wanted === undefined ? usable[0] : usable.find(({ bdf }) => bdf === wanted);
  if (found !== undefined) return found;
  throw new PeerlaneError("no-such-device", "there is no such NVMe controller in this machine", {
    place: machine.name,
    remedy: "peerlane topo shows what there is; a BAR must have an address and a size",
  });
}

export interface ShelfOptions {
  readonly machine: Machine;
  /** Default: the first that will do. */
  readonly ssd: Bdf | undefined;
  /** A CMB to give to the SSD; 0: none. */
  readonly cmbBytes: number;
  /** A file has answered: poll. */
  readonly wake: () => void;
}

export class Shelf {
  /** The machine of the dump, with what the SSD was given. */
  readonly machine: Machine;
  /** What differs from the dump, a sentence each. */
  readonly edits: readonly string[];
  readonly ssd: PciFunction;
  readonly context: DmaContext;
  readonly controller: NvmeController;
  readonly fabric: Fabric;
  private readonly model: NvmeModel;
  private readonly copier = new Copier();
  private readonly shelved = new Map<Backend, Shelved>();
  private readonly wake: () => void;

  private constructor(parts: {
    readonly machine: Machine;
    readonly edits: readonly string[];
    readonly ssd: PciFunction;
    readonly context: DmaContext;
    readonly controller: NvmeController;
    readonly fabric: Fabric;
    readonly model: NvmeModel;
    readonly wake: () => void;
  }) {
    this.machine = parts.machine;
    this.edits = parts.edits;
    this.ssd = parts.ssd;
    this.context = parts.context;
    this.controller = parts.controller;
    this.fabric = parts.fabric;
    this.model = parts.model;
    this.wake = parts.wake;
  }

  /**
   * Builds the machine and attaches the driver. Throws `no-such-device`, and what giving the SSD a
   * CMB throws.
   */
  static async open({ machine: dump, ssd: wanted, cmbBytes, wake }: ShelfOptions): Promise<Shelf> {
    const ssd = chooseSsd(dump, wanted);
    const edits: string[] = [];
    const given = cmbBytes === 0 ? null : giveCmb(dump, ssd.bdf, cmbBytes, edits);
    const machine = given?.machine ?? dump;
    const cmb = given === null ? null : { bar: given.bar, offset: 0, sizeBytes: cmbBytes };
    let model: NvmeModel | null = null;
    const fabric = buildFabric(machine, {
      model: (fn, { copier }) => {
        if (fn.bdf !== ssd.bdf) return null;
        model = new NvmeModel({ copier, namespaces: [], cmb });
        return model;
      },
    });
    if (model === null) throw new Error("the fabric asks for a model of every function");
    const context = new DmaContext(fabric, { iommu: "off", snapshot: machine });
    const controller = await NvmeController.attach(context.device(ssd.bdf));
    return new Shelf({ machine, edits, ssd, context, controller, fabric, model, wake });
  }

  /** To poll, in this order. */
  get pollers(): readonly Poller[] {
    return [this.controller, this.fabric];
  }

  /** A namespace as configured. Throws what opening its file throws. */
  async add(config: NamespaceConfig): Promise<Backend> {
    const path = config.device_path;
    const { file, sizeBytes } = path === undefined ? memory(config) : this.openFile(config, path);
    const store =
      file === null ? new MemoryStore(sizeBytes, this.copier) : new FileStore(file, sizeBytes);
    try {
      const isDirect = config.backend === "cpu";
      const made = isDirect ? this.overStore(config, store) : await this.addToSsd(config, store);
      const { nsid, ...how } = made;
      const backend = { ...how, sizeBytes };
      this.shelved.set(backend, { nsid, file });
      return backend;
    } catch (error) {
      file?.close();
      throw error;
    }
  }

  private overStore({ device_path: path, block_size }: NamespaceConfig, store: NamespaceStore) {
    const { copier } = this;
    const name = path ?? "memory";
    const isCached = path !== undefined;
    const queue = new StoreQueue({ name, store, blockBytes: block_size, isCached, copier });
    return { nsid: null, queue, initiators: [] };
  }

  private async addToSsd(config: NamespaceConfig, store: NamespaceStore) {
    const { block_size: lbaBytes, read_only: readOnly } = config;
    const nsid = this.model.addNamespace({ store, lbaBytes, readOnly });
    await this.controller.rescan();
    const found = this.controller.namespaces.find(({ info }) => info.nsid === nsid);
    if (found === undefined) throw new Error("the driver sees every namespace of the model");
    return { nsid, queue: found.queue, initiators: [this.controller.device] };
  }

  /** Takes a namespace whose queue is idle away and closes its file, with all data in it. */
  async remove(backend: Backend): Promise<void> {
    const shelved = this.shelved.get(backend);
    if (shelved === undefined) return;
    this.shelved.delete(backend);
    if (shelved.nsid !== null) {
      this.model.removeNamespace(shelved.nsid);
      await this.controller.rescan();
    }
    await closeFile(shelved.file);
  }

  private openFile(config: NamespaceConfig, path: string): { file: BlockFile; sizeBytes: number } {
    for (const { file } of this.shelved.values()) {
      if (file?.path !== path) continue;
      throw new PeerlaneError("file-in-use", `another namespace is in ${path}`, {
        place: path,
        remedy: "give each namespace a file of its own",
      });
    }
    const readOnly = config.read_only;
    const wanted = config.size ?? 0;
    const { wake } = this;
    const file = openBlockFile(path, { sizeBytes: wanted, readOnly, lock: true, wake });
    const sizeBytes = config.size ?? file.sizeBytes - (file.sizeBytes % SIZE_UNIT);
    const isShort = file.sizeBytes < sizeBytes;
    if (sizeBytes > 0 && !isShort) return { file, sizeBytes };
    file.close();
    if (isShort) {
      throw new PeerlaneError(
        "block-file",
        `${path} is shorter than its size says, and read-only`,
        {
          place: path,
          remedy: "leave the size out: what is there is served",
        },
      );
    }
    throw new PeerlaneError("block-file", `${path} is empty and no size is given`, {
      place: path,
      remedy: "add size: 1G to the namespace",
    });
  }

  /** Closes all files. Nothing may be in flight. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (const { file } of this.shelved.values()) {
      await closeFile(file).catch((error: unknown) => failures.push(error));
    }
    this.shelved.clear();
    if (failures.length > 0) throw failures[0];
  }

  inspect(): Tree {
    return { controller: this.controller.inspect(), namespaces: this.shelved.size };
  }
}

function memory(config: NamespaceConfig): { file: null; sizeBytes: number } {
  if (config.size !== undefined) return { file: null, sizeBytes: config.size };
  throw new PeerlaneError("bad-namespace", "a namespace in memory needs a size", {
    place: `namespace ${config.nsid}`,
    remedy: "add size: 1G, or device_path with a file",
  });
}

/** Writes out what the file was given. Throws `block-file` when that fails; closed it is. */
async function closeFile(file: BlockFile | null): Promise<void> {
  if (file === null) return;
  await file.idle();
  const isSafe = file.readOnly || file.syncNow() === FileStatus.ok;
  file.close();
  if (isSafe) return;
  throw new PeerlaneError("block-file", `${file.path} was not written out: ${file.lastError}`, {
    place: file.path,
    remedy: "look at the system's log for errors of the disk; the last writes may be lost",
  });
}
