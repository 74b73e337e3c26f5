/**
 * Configuration space of one function: live bytes, and for each byte which bits software may write,
 * which it clears by writing ones, and what a write concerns. Registers that decide where requests
 * go tell the fabric so.
 *
 * Invariants: a read-only bit never changes; a function that cannot be reached reads as all ones
 * and takes no writes, as after a master abort. Values are little-endian.
 *
 * Left out: side effects of capabilities that no driver of ours uses (power states, slot control,
 * VPD); their bytes read as dumped. SR-IOV is not re-enumerated: VFs are those of the snapshot.
 *
 * Source: PCI Express Base 6.x sections 7.5.1 (header), 7.5.3 (PCI Express), 7.7.11 (ACS), 7.7.1
 * (MSI), 7.7.2 (MSI-X), 7.8.4 (AER), 10.5.1 (ATS).
 */

import type { ConfigAccess } from "../backing/interface.ts";
import { assert } from "../core/index.ts";
import { CONFIG_PCIE_BYTES } from "../spec/pcie/index.ts";
import { ConfigMasks, describeWrites } from "./config-masks.ts";

/** Told after bytes changed. `effects` is the union over the bytes written. */
export interface ConfigClient {
  isConfigReachable(): boolean;
  configWritten(effects: number): void;
}

export class ConfigSpace implements ConfigAccess {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Made at the first write: most functions of a large machine never see one. */
  private masks: ConfigMasks | null = null;
  private readonly barSizes: readonly number[];
  private readonly client: ConfigClient;

  /** Takes `bytes` (CONFIG_PCIE_BYTES of them) as its own. `barSizes` by BAR index; 0 for none. */
  constructor(bytes: Uint8Array, barSizes: readonly number[], client: ConfigClient) {
    assert(bytes.length === CONFIG_PCIE_BYTES, "configuration space is 4 KiB");
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.client = client;
    this.barSizes = barSizes;
  }

  read8(offset: number): number {
    return this.client.isConfigReachable() ? this.view.getUint8(this.checked(offset, 1)) : 0xff;
  }

  read16(offset: number): number {
    if (!this.client.isConfigReachable()) return 0xffff;
    return this.view.getUint16(this.checked(offset, 2), true);
  }

  read32(offset: number): number {
    if (!this.client.isConfigReachable()) return 0xffffffff;
    return this.view.getUint32(this.checked(offset, 4), true);
  }

  write8(offset: number, value: number): void {
    this.write(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    this.write(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    this.write(offset, 4, value);
  }

  /** BARs got other sizes: which bits software may write is to be found anew. */
  sizesChanged(): void {
    this.masks = null;
  }

  private write(offset: number, size: number, value: number): void {
    this.checked(offset, size);
    if (!this.client.isConfigReachable()) return;
    if (this.masks === null) {
      this.masks = new ConfigMasks();
      describeWrites(this.masks, this.bytes, this.barSizes);
    }
    const { writable, clearedByOnes, effects } = this.masks;
    let touched = 0;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const mask = writable[at];
      const old = this.bytes[at];
      this.bytes[at] = ((old & ~mask) | (byte & mask)) & ~(byte & clearedByOnes[at]);
      touched |= effects[at];
    }
    if (touched !== 0) this.client.configWritten(touched);
  }

  private checked(offset: number, size: number): number {
    assert(
      offset >= 0 && offset + size <= CONFIG_PCIE_BYTES,
      "an access stays in configuration space",
    );
    assert(offset % size === 0, "configuration accesses are naturally aligned");
    return offset;
  }
}
