/**
 * DataViews over borrowed memory, kept by the identity of the byte array: making one costs more
 * than parsing a queue entry. A controller fetches from few chunks (queues, PRP lists, its CMB), so
 * a handful of slots is enough; a miss only costs one allocation.
 *
 * Invariant: `view(bytes)` covers exactly `bytes`.
 */

const SLOTS = 8;
const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

export class ViewCache {
  private readonly arrays: Uint8Array[] = new Array(SLOTS).fill(NO_BYTES);
  private readonly views: DataView[] = new Array(SLOTS).fill(NO_VIEW);
  private victim = 0;

  view(bytes: Uint8Array): DataView {
    const arrays = this.arrays;
    for (let i = 0; i < SLOTS; i++) if (arrays[i] === bytes) return this.views[i] as DataView;
    const made = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    arrays[this.victim] = bytes;
    this.views[this.victim] = made;
    this.victim = (this.victim + 1) % SLOTS;
    return made;
  }
}
