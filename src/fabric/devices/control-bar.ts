/**
 * BAR0 of the models whose registers are Peerlane's own (GPU, RNIC): a read-only header by which a
 * driver knows the model and finds its parts, then the registers, then the doorbells. The header's
 * layout is in spec/gpu/registers.ts (`GpuHeader`) and, the same, spec/rdma/rnic.ts (`RnicHeader`).
 */

import type { BarRegion, RegisterHandler } from "../device.ts";

const HEADER_BYTES = 0x10;

/** Offsets and sizes are bytes in BAR0. */
export interface ControlBar {
  readonly signature: number;
  readonly version: number;
  readonly registersAt: number;
  readonly registerBytes: number;
  readonly registers: RegisterHandler;
  readonly doorbellsAt: number;
  readonly doorbellBytes: number;
  readonly doorbells: RegisterHandler;
}

class HeaderRegisters implements RegisterHandler {
  private readonly words: readonly number[];

  constructor(words: readonly number[]) {
    this.words = words;
  }

  read32(offset: number): number {
    return this.words[offset >>> 2] ?? 0;
  }

  write32(): void {
    // Read only.
  }
}

export function controlBarRegions(parts: ControlBar): BarRegion[] {
  const { registersAt, doorbellsAt } = parts;
  const header = [parts.signature, parts.version, registersAt, doorbellsAt];
  const region = (offset: number, sizeBytes: number, registers: RegisterHandler): BarRegion => ({
    bar: 0,
    offset,
    sizeBytes,
    registers,
    memory: null,
  });
  return [
    region(0, HEADER_BYTES, new HeaderRegisters(header)),
    region(registersAt, parts.registerBytes, parts.registers),
    region(doorbellsAt, parts.doorbellBytes, parts.doorbells),
  ];
}
