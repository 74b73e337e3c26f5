/**
 * Message-signalled interrupts of one function: the MSI-X table and pending bits in its BAR, or MSI
 * in configuration space. Models only say "vector n"; masks and pending bits are kept here.
 *
 * Invariant: an interrupt that is masked is remembered in its pending bit and sent once the mask is
 * lifted; an interrupt that is not enabled is forgotten, as on hardware that then has no way to
 * signal.
 *
 * Source: PCI Express Base 6.x, 7.7.1 and 7.7.2, 6.1.4. INTx is left out: no model asserts it.
 */

import {
  CapabilityId,
  findCapability,
  MSIX_BIR,
  MSIX_VECTOR_MASK,
  Msi,
  MsiControl,
  MsiX,
  MsiXControl,
  MsiXEntry,
  readLe16,
  readLe32,
} from "../spec/pcie/index.ts";
import type { BarRegion, RegisterHandler } from "./device.ts";
import type { FabricNode } from "./node.ts";

const ENTRY_WORDS = MsiXEntry.bytes / 4;
const ADDRESS_WORD = MsiXEntry.address / 4;
const UPPER_WORD = MsiXEntry.addressUpper / 4;
const DATA_WORD = MsiXEntry.data / 4;
const CONTROL_WORD = MsiXEntry.vectorControl / 4;
const MASKED = MSIX_VECTOR_MASK.bits;

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
    const { bytes } = node.config;
    this.msixOffset = findCapability(bytes, CapabilityId.msiX);
    this.msiOffset = findCapability(bytes, CapabilityId.msi);
    const last = MsiXControl.tableSize.get(this.msixControl);
    this.msixVectors = this.msixOffset === 0 ? 0 : last + 1;
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
    return this.place(MsiX.table);
  }

  /** Vectors that MSI can have: Multiple Message Capable. */
  get msiVectors(): number {
    if (this.msiOffset === 0) return 0;
    return 2 ** MsiControl.multipleCapable.get(this.msiControl);
  }

  /** The parts of the function's BARs that the table and the pending bits take. */
  overlays(): BarRegion[] {
    if (this.msixVectors === 0) return [];
    const table = this.place(MsiX.table);
    const pending = this.place(MsiX.pendingBits);
    const regions = [
      this.region(table, this.msixVectors * MsiXEntry.bytes, {
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
    if (this.msixOffset !== 0 && MsiXControl.enable.get(this.msixControl) === 1) {
      if (vector >= this.msixVectors) return;
      if (this.isMasked(vector)) this.setPending(vector, true);
      else this.send(vector);
      return;
    }
    if (this.msiOffset !== 0) this.raiseMsi(vector);
  }

  /** Control registers changed: what was masked may go out now. */
  controlChanged(): void {
    if (MsiXControl.enable.get(this.msixControl) === 0) return;
    for (let vector = 0; vector < this.msixVectors; vector++) this.sendIfPending(vector);
  }

  reset(): void {
    this.table.fill(0);
    this.pending.fill(0);
    for (let vector = 0; vector < this.msixVectors; vector++) {
      this.table[vector * ENTRY_WORDS + CONTROL_WORD] = MASKED;
    }
  }

  private get msixControl(): number {
    if (this.msixOffset === 0) return 0;
    return readLe16(this.node.config.bytes, this.msixOffset + MsiX.control);
  }

  private get msiControl(): number {
    return readLe16(this.node.config.bytes, this.msiOffset + Msi.control);
  }

  private place(register: number): { bar: number; offset: number } {
    const word = readLe32(this.node.config.bytes, this.msixOffset + register);
    return { bar: MSIX_BIR.get(word), offset: MSIX_BIR.set(word, 0) };
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
    this.table[word] = word % ENTRY_WORDS === CONTROL_WORD ? value & MASKED : value;
    if (word % ENTRY_WORDS === CONTROL_WORD) this.sendIfPending(Math.floor(word / ENTRY_WORDS));
  }

  private isMasked(vector: number): boolean {
    if (MsiXControl.functionMask.get(this.msixControl) === 1) return true;
    return (this.table[vector * ENTRY_WORDS + CONTROL_WORD] & MASKED) !== 0;
  }

  private sendIfPending(vector: number): void {
    const isPending = ((this.pending[vector >> 5] >>> (vector & 31)) & 1) === 1;
    if (!isPending || this.isMasked(vector) || MsiXControl.enable.get(this.msixControl) === 0)
      return;
    this.setPending(vector, false);
    this.send(vector);
  }

  private setPending(vector: number, isPending: boolean): void {
    const word = this.pending[vector >> 5];
    const bit = 1 << (vector & 31);
    this.pending[vector >> 5] = isPending ? word | bit : word & ~bit;
  }

  private send(vector: number): void {
    const at = vector * ENTRY_WORDS;
    const low = (this.table[at + ADDRESS_WORD] & ~3) >>> 0;
    const address = low + this.table[at + UPPER_WORD] * 2 ** 32;
    this.sender.sendMessage(this.node, address, this.table[at + DATA_WORD]);
  }

  private raiseMsi(vector: number): void {
    const { bytes } = this.node.config;
    const at = this.msiOffset;
    const control = this.msiControl;
    const enabled = 2 ** MsiControl.multipleEnable.get(control);
    if (MsiControl.enable.get(control) === 0 || vector >= enabled) return;
    const is64 = MsiControl.address64.get(control) === 1;
    const high = is64 ? readLe32(bytes, at + Msi.addressUpper) : 0;
    const data = readLe16(bytes, at + (is64 ? Msi.data64 : Msi.data32));
    const address = readLe32(bytes, at + Msi.address) + high * 2 ** 32;
    this.sender.sendMessage(this.node, address, data | vector);
  }
}
