/**
 * Raw admin commands with data, for tools: the data goes through a coherent buffer of the driver.
 *
 * Invariant: the buffer of a command that never completed is an orphan, since the controller may
 * still write it. It is freed after the controller was disabled.
 */

import { assert, PeerlaneError } from "../core/index.ts";
import type { DmaBuffer } from "../dma/index.ts";
import { DataDirection, dataDirection, SQE_BYTES } from "../spec/nvme/index.ts";
import { AdminCommand, type AdminQueue, type AdminResult } from "./admin-queue.ts";
import type { Site } from "./bring-up.ts";
import type { Steps } from "./steps.ts";

export class RawAdmin {
  private readonly site: Site;
  private readonly queue: AdminQueue;
  private readonly orphans: DmaBuffer[] = [];

  constructor(site: Site, queue: AdminQueue) {
    this.site = site;
    this.queue = queue;
  }

  /** A command never completed: only a reset gives its buffer back. */
  get hasOrphans(): boolean {
    return this.orphans.length > 0;
  }

  /** Sends `sqe` with `data`. Throws `nvme-admin-timeout` and `nvme-admin-size`. */
  *execute(sqe: Uint8Array, data: Uint8Array | null): Steps<AdminResult> {
    assert(sqe.length === SQE_BYTES, "an admin command has 64 bytes");
    const command = new AdminCommand(sqe[0]);
    command.dwords.set(new Uint32Array(sqe.slice().buffer));
    if (data === null || data.length === 0) return yield* this.queue.execute(command);
    const { device, options, place } = this.site;
    const { pageBytes } = options;
    // PRP1 and PRP2: two pages need no list.
    if (data.length > 2 * pageBytes) {
      throw new PeerlaneError("nvme-admin-size", `admin data of ${data.length} bytes`, {
        place,
        remedy: `use at most ${2 * pageBytes} bytes, with an offset where the command has one`,
      });
    }
    const buffer = device.allocCoherent(data.length, pageBytes);
    const direction = dataDirection(command.opcode);
    if (direction === DataDirection.hostToController) buffer.bytes.set(data);
    command.prps(buffer.dma, data.length > pageBytes ? buffer.dma + pageBytes : 0);
    let result: AdminResult;
    try {
      result = yield* this.queue.execute(command);
    } catch (error) {
      this.orphans.push(buffer);
      throw error;
    }
    if (direction === DataDirection.controllerToHost) data.set(buffer.bytes);
    device.freeCoherent(buffer);
    return result;
  }

  /** The controller is disabled: nothing writes these any more. */
  freeOrphans(): void {
    for (const buffer of this.orphans) this.site.device.freeCoherent(buffer);
    this.orphans.length = 0;
  }
}
