/**
 * Brings an RNIC up: its verbs, and the connection manager on queue pair 1. What users of the room
 * start from.
 */

import { Prng, type Tree } from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import { MadChannel } from "./cm/channel.ts";
import { CmManager } from "./cm/manager.ts";
import type { ConnectionManager, RdmaDevice as Device } from "./cm-types.ts";
import { RnicDevice } from "./rnic/device.ts";

export type RdmaDevice = Device;

export interface AttachOptions {
  /** Starting PSNs and connection ids come from it; by default from the device's address. */
  readonly seed?: number;
}

class AttachedDevice extends RnicDevice implements Device {
  private manager: CmManager | null = null;
  private channel: MadChannel | null = null;

  async openManager(seed: number): Promise<void> {
    this.channel = await MadChannel.open(this);
    this.manager = new CmManager(this, this.channel, new Prng(seed));
  }

  get cm(): ConnectionManager {
    return this.manager as CmManager;
  }

  override poll(): number {
    return super.poll() + (this.manager?.poll() ?? 0);
  }

  override async close(): Promise<void> {
    await super.close();
    this.channel?.close();
  }

  override inspect(): Tree {
    return { ...super.inspect(), connectionManager: this.manager?.inspect() ?? null };
  }
}

export const RdmaDevice = {
  /**
   * Enables the function (Memory Space, Bus Master), resets the RNIC, opens queue pair 1. Throws
   * `no-rnic` when the function is none, `no-bar`, `dma-map`.
   */
  async attach(dma: DmaDevice, options: AttachOptions = {}): Promise<Device> {
    const device = new AttachedDevice(dma);
    const seed = options.seed ?? device.gid.reduce((hash, byte) => (hash * 31 + byte) >>> 0, 7);
    await device.openManager(seed);
    return device;
  },
};
