/**
 * Message-signalled interrupts of one function: the MSI-X table and pending bits in its BAR, or MSI in
 * configuration space. Models only say "vector n"; masks and pending bits are kept here.
 *
 * Invariant: an interrupt that is masked is remembered in its pending bit and sent once the mask is
 * lifted; an interrupt that is not enabled is forgotten, as on hardware that then has no way to signal.
 *
 * Source: PCI Express Base 6.x, 7.7.1 and 7.7.2, 6.1.4. INTx is left out: no model asserts it.
 */

import {
  CapabilityId,
  findCapability,
  MSI_64_BIT,
  MSI_ENABLE,
  MSIX_ENABLE,
  MSIX_MASK_ALL,
  MsixOffset,
} from "./config-layout.ts";
import type { BarRegion, RegisterHandler } from "./device.ts";
import type { FabricNode } from "./node.ts";

const ENTRY_BYTES = 16;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const MASKED = 1;

/** Sends a message write as the function. */
export interface MessageSender {
  sendMessage(node: FabricNode, address: number, data: number): void;
}

export class FunctionInterrupts {
  /** Vectors of the MSI-X table; 0 without the capability. */
  readonly msixVectors: number;
  private readonly node: FabricNode;
  private readonly sender: MessageSender;
  private readonly msixOffset: number;
  private readonly msiOffset: number;
  private readonly table: Uint32Array;
  private readonly pending: Uint32Array;

  constructor(node: FabricNode, sender: MessageSender) {
    this.node = node;
    this.sender = sender;
    const { view } = node.config;
    this.msixOffset = findCapability(view, CapabilityId.msix);
    this.msiOffset = findCapability(view, CapabilityId.msi);
    this.msixVectors = this.msixOffset === 0 ? 0 : (this.msixControl & 0x7ff) + 1;
    this.table = new Uint32Array(this.msixVectors * ENTRY_WORDS);
    this.pending = new Uint32Array(2 * Math.ceil(this.msixVectors / 64));
    this.reset();
  }

  get hasMsi(): boolean {
    return this.msiOffset !== 0;
  }

  get msixCapability(): number {
    return this.msixOffset;
  }

  get msiCapability(): number {
    return this.msiOffset;
  }

  /** BAR and offset of the table. */
  get tablePlace(): { bar: number; offset: number } {
    return this.place(MsixOffset.table);
  }

  /** Vectors that MSI can have: Multiple Message Capable. */
  get msiVectors(): number {
    if (this.msiOffset === 0) return 0;
    return 1 << ((this.node.config.view.getUint16(this.msiOffset + 2, true) >> 1) & 7);
  }

  /** The parts of the function's BARs that the table and the pending bits take. */
  overlays(): BarRegion[] {
    if (this.msixVectors === 0) return [];
    const table = this.place(MsixOffset.table);
    const pending = this.place(MsixOffset.pending);
    const regions = [
      this.region(table, this.msixVectors * ENTRY_BYTES, {
        read32: (offset) => this.table[offset / 4] ?? 0,
        write32: (offset, value) => this.writeTable(offset / 4, value),
      }),
      this.region(pending, this.pending.length * 4, {
        read32: (offset) => this.pending[offset / 4] ?? 0,
        write32: () => {},
      }),
    ];
    return regions.filter(
      ({ bar, offset, sizeBytes }) => offset + sizeBytes <= (this.node.barSizes[bar] ?? 0),
    );
  }

  /** The model asks for interrupt `vector`. */
  raise(vector: number): void {
    if (this.msixOffset !== 0 && (this.msixControl & MSIX_ENABLE) !== 0) {
      if (vector >= this.msixVectors) return;
      if (this.isMasked(vector)) this.setPending(vector, true);
      else this.send(vector);
      return;
    }
    if (this.msiOffset !== 0) this.raiseMsi(vector);
  }

  /** Control registers changed: what was masked may go out now. */
  controlChanged(): void {
    if ((this.msixControl & MSIX_ENABLE) === 0) return;
    for (let vector = 0; vector < this.msixVectors; vector++) this.sendIfPending(vector);
  }

  reset(): void {
    this.table.fill(0);
    this.pending.fill(0);
    for (let vector = 0; vector < this.msixVectors; vector++) {
      this.table[vector * ENTRY_WORDS + 3] = MASKED;
    }
  }

  private get msixControl(): number {
    if (this.msixOffset === 0) return 0;
    return this.node.config.view.getUint16(this.msixOffset + MsixOffset.control, true);
  }

  private place(register: number): { bar: number; offset: number } {
    const word = this.node.config.view.getUint32(this.msixOffset + register, true);
    return { bar: word & 7, offset: (word & ~7) >>> 0 };
  }

  private region(
    { bar, offset }: { bar: number; offset: number },
    sizeBytes: number,
    registers: RegisterHandler,
  ): BarRegion {
    return { bar, offset, sizeBytes, registers, memory: null };
  }

  private writeTable(word: number, value: number): void {
    if (word >= this.table.length) return;
    this.table[word] = word % ENTRY_WORDS === 3 ? value & MASKED : value;
    if (word % ENTRY_WORDS === 3) this.sendIfPending(Math.floor(word / ENTRY_WORDS));
  }

  private isMasked(vector: number): boolean {
    if ((this.msixControl & MSIX_MASK_ALL) !== 0) return true;
    return ((this.table[vector * ENTRY_WORDS + 3] as number) & MASKED) !== 0;
  }

  private sendIfPending(vector: number): void {
    const isPending = (((this.pending[vector >> 5] as number) >>> (vector & 31)) & 1) === 1;
    if (!isPending || this.isMasked(vector) || (this.msixControl & MSIX_ENABLE) === 0) return;
    this.setPending(vector, false);
    this.send(vector);
  }

  private setPending(vector: number, isPending: boolean): void {
    const word = this.pending[vector >> 5] as number;
    const bit = 1 << (vector & 31);
    this.pending[vector >> 5] = isPending ? word | bit : word & ~bit;
  }

  private send(vector: number): void {
    const at = vector * ENTRY_WORDS;
    const low = (this.table[at] as number) & ~3;
    const address = (low >>> 0) + (this.table[at + 1] as number) * 2 ** 32;
    this.sender.sendMessage(this.node, address, this.table[at + 2] as number);
  }

  private raiseMsi(vector: number): void {
    const { view } = this.node.config;
    const at = this.msiOffset;
    const control = view.getUint16(at + 2, true);
    const enabled = 1 << ((control >> 4) & 7);
    if ((control & MSI_ENABLE) === 0 || vector >= enabled) return;
    const is64 = (control & MSI_64_BIT) !== 0;
    const high = is64 ? view.getUint32(at + 8, true) : 0;
    const data = view.getUint16(at + (is64 ? 12 : 8), true);
    this.sender.sendMessage(
      this.node,
      view.getUint32(at + 4, true) + high * 2 ** 32,
      data | vector,
    );
  }
}
