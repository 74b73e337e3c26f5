/**
 * Importing a dma-buf for I/O: for drivers whose devices touch the buffer only in I/O that begins
 * and ends on its memory (block queues, NVMe, a GPU's copy engines). In-flight counts say all that
 * a move needs to know, so these importers are dynamic without work of their own.
 *
 * Leaves out: what holds addresses beyond an I/O, as RDMA regions do (rdma/rnic/dma-buf-region.ts).
 */

import { assert, type Inspectable, type Tree } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import type { DmaBufAttachment } from "./attachment.ts";
import type { DmaBuf } from "./dma-buf.ts";
import type { DmaBufMemory } from "./dma-buf-memory.hot.ts";

/** A dma-buf attached for some devices, as memory. */
export class DmaBufImport implements Inspectable {
  readonly buffer: DmaBuf;
  readonly memory: DmaBufMemory;
  readonly attachments: readonly DmaBufAttachment[];

  /** Use {@link importDmaBuf}. */
  constructor(buffer: DmaBuf, attachments: readonly DmaBufAttachment[]) {
    this.buffer = buffer;
    this.attachments = attachments;
    this.memory = buffer.memory(attachments);
  }

  get isMapped(): boolean {
    return this.attachments.every(({ isMapped }) => isMapped);
  }

  /**
   * Maps it for every device, also again after a move. Throws what the attachment's `map` throws.
   */
  async map(): Promise<void> {
    // Making room for one may move what another has mapped.
    for (let tries = 0; tries <= this.attachments.length && !this.isMapped; tries++) {
      for (const attachment of this.attachments) await attachment.map();
    }
  }

  /** Unmaps and detaches. No I/O may begin any more. */
  async close(): Promise<void> {
    for (const attachment of this.attachments) await attachment.detach();
  }

  inspect(): Tree {
    return {
      buffer: this.buffer.name,
      attachments: this.attachments.map((attachment) => attachment.inspect()),
    };
  }
}

/**
 * Attaches `buffer` for all of `devices`, or for none, and maps nothing yet. Throws what
 * {@link DmaBuf.attach} throws.
 */
export async function importDmaBuf(
  buffer: DmaBuf,
  devices: readonly DmaDevice[],
  options: { readonly peerToPeer?: boolean } = {},
): Promise<DmaBufImport> {
  assert(devices.length > 0, "a buffer is imported for somebody");
  const { peerToPeer = true } = options;
  const attachments: DmaBufAttachment[] = [];
  try {
    for (const device of devices) {
      attachments.push(buffer.attach({ device, peerToPeer, invalidateMappings: () => undefined }));
    }
  } catch (error) {
    for (const attachment of attachments) await attachment.detach();
    throw error;
  }
  return new DmaBufImport(buffer, attachments);
}
