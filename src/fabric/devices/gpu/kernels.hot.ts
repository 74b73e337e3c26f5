/**
 * Kernels of the model GPU: reductions over VRAM as it is, not over anything a driver holds, so a
 * result says what the GPU sees. They are fed runs of bytes, one behind the other.
 *
 * Invariant: the result does not depend on how the bytes are cut into runs (SUM64: into runs of
 * whole words).
 */

import { CRC32C_START, crc32cFinish, crc32cUpdate } from "../../../core/index.ts";
import { GpuKernel } from "../../../spec/gpu/index.ts";

const WORD = 4294967296;

export class Reduction {
  /** The result so far, as two halves; of CRC32C the low one is the running state. */
  lo = 0;
  hi = 0;
  private kernel = 0;

  /** False when there is no such kernel. */
  begin(kernel: number): boolean {
    if (kernel !== GpuKernel.crc32c && kernel !== GpuKernel.sum64) return false;
    this.kernel = kernel;
    this.lo = kernel === GpuKernel.crc32c ? CRC32C_START : 0;
    this.hi = 0;
    return true;
  }

  take(bytes: Uint8Array, offset: number, length: number): void {
    if (this.kernel === GpuKernel.crc32c) this.lo = crc32cUpdate(this.lo, bytes, offset, length);
    else this.sum(bytes, offset, length);
  }

  /** Makes `lo` and `hi` the result. */
  end(): void {
    if (this.kernel === GpuKernel.crc32c) this.lo = crc32cFinish(this.lo);
  }

  private sum(bytes: Uint8Array, offset: number, length: number): void {
    // At most 2^19 words per run of 2 MiB: exact in a double.
    let low = this.lo;
    const end = offset + length;
    for (let at = offset; at < end; at += 4) {
      low +=
        bytes[at] + bytes[at + 1] * 0x100 + bytes[at + 2] * 0x10000 + bytes[at + 3] * 0x1000000;
    }
    const carry = Math.floor(low / WORD);
    this.lo = low - carry * WORD;
    this.hi = (this.hi + carry) % WORD;
  }
}
