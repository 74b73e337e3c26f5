/**
 * What every memory region of the model RNIC is: a key that the device translates by, and an end.
 *
 * Invariant: what lies behind a region is let go only after the device forgot the key, or does not
 * answer: then it does no DMA either.
 */

import { hex, type Tree } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import { RnicCommand } from "../../spec/rdma/index.ts";
import type { AsyncEvent, Mr, Pd, VerbsDevice } from "../verbs.ts";
import type { RnicControl } from "./control.ts";

/** A region's protection domain, and through it the device. */
export interface RegionPd extends Pd {
  readonly device: VerbsDevice & {
    /** A failure that nobody waits for. */
    report(event: AsyncEvent): void;
  };
  readonly control: RnicControl;
  readonly dma: DmaDevice;
  forget(region: Mr): void;
}

export abstract class RnicRegion implements Mr {
  readonly pd: RegionPd;
  readonly address: number;
  readonly length: number;
  readonly access: number;
  /** 0 until the device has made it. */
  lkey = 0;
  valid = false;
  private ended: Promise<void> | null = null;

  constructor(pd: RegionPd, address: number, length: number, access: number) {
    this.pd = pd;
    this.address = address;
    this.length = length;
    this.access = access;
  }

  get rkey(): number {
    return this.lkey;
  }

  /** True from the first `deregister` on. */
  protected get isEnding(): boolean {
    return this.ended !== null;
  }

  deregister(): Promise<void> {
    this.ended ??= this.finish();
    return this.ended;
  }

  private async finish(): Promise<void> {
    this.valid = false;
    try {
      await this.pd.control.about(RnicCommand.destroyMr, this.lkey);
    } finally {
      await this.letGo();
      this.pd.forget(this);
    }
  }

  /** Unmaps what is behind it; the device uses it no more. */
  protected abstract letGo(): Promise<void> | void;

  /** The device did not do what nobody waits for. */
  protected reportFatal(): void {
    this.pd.device.report({ kind: "device-fatal", number: this.lkey });
  }

  inspect(): Tree {
    return {
      key: hex(this.lkey),
      address: hex(this.address),
      length: this.length,
      access: this.access,
      valid: this.valid,
    };
  }
}
