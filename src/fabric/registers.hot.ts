/**
 * DMA into and out of registers: whole aligned 32-bit words, as device registers take them.
 * Anything else a register file answers with Completer Abort (PCI Express Base 6.x, 2.3.1: a
 * completer's programming model may restrict sizes).
 */

import { DmaStatus } from "../core/index.ts";
import type { RegisterHandler } from "./device.ts";

export function writeRegisters(
  registers: RegisterHandler,
  offset: number,
  source: Uint8Array,
  sourceOffset: number,
  length: number,
): number {
  if (((offset | length) & 3) !== 0) return DmaStatus.completerAbort;
  for (let done = 0; done < length; done += 4) {
    const at = sourceOffset + done;
    const word =
      source[at] | (source[at + 1] << 8) | (source[at + 2] << 16) | (source[at + 3] << 24);
    registers.write32(offset + done, word >>> 0);
  }
  return DmaStatus.ok;
}

export function readRegisters(
  registers: RegisterHandler,
  offset: number,
  target: Uint8Array,
  targetOffset: number,
  length: number,
): number {
  if (((offset | length) & 3) !== 0) return DmaStatus.completerAbort;
  for (let done = 0; done < length; done += 4) {
    const word = registers.read32(offset + done);
    const at = targetOffset + done;
    target[at] = word;
    target[at + 1] = word >>> 8;
    target[at + 2] = word >>> 16;
    target[at + 3] = word >>> 24;
  }
  return DmaStatus.ok;
}
