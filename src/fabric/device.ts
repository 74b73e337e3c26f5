/**
 * The contract between the fabric and a device model. A model sees its own BARs, configuration
 * writes it subscribed to, and a port through which it issues DMA as itself. It never sees another
 * device, host memory or the topology.
 *
 * Payload moves inside `read`, `write` or by `borrow` at the moment of the call, in functional and
 * in timed mode alike. Timed mode adds when: a model asks `settle` before it reports a result, and
 * is told when everything it issued since the last `settle` has landed.
 */

import type { Bdf, Inspectable, Span, SparseMemory } from "../core/index.ts";

/** Registers of a device: whole 32-bit accesses at 4-byte offsets from the start of the region. */
export interface RegisterHandler {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
}

/** One part of a BAR. Parts do not overlap; an access outside all of them reads zeros. */
export interface BarRegion {
  readonly bar: number;
  readonly offset: number;
  readonly sizeBytes: number;
  /** Exactly one of these two is set. */
  readonly registers: RegisterHandler | null;
  readonly memory: SparseMemory | null;
  /** The byte of `memory` that the region's first byte shows: a window. Default 0. */
  readonly memoryOffset?: number;
}

/** Told when what it issued has landed; `token` is what it gave. */
export interface SettleClient {
  settled(token: number): void;
}

/** Told when its timer runs out. */
export interface TimerClient {
  timer(token: number): void;
}

/** A device's way onto the bus: DMA with its requester id, interrupts, time. Never throws. */
export interface DevicePort {
  readonly bdf: Bdf;
  /** Memory write TLPs. Returns a `DmaStatus`. */
  write(address: number, source: Uint8Array, sourceOffset: number, length: number): number;
  /** Memory read TLPs and their completions. Returns a `DmaStatus`; on failure nothing moved. */
  read(address: number, target: Uint8Array, targetOffset: number, length: number): number;
  /**
   * A memory read whose data is lent instead of copied, for models that pass it straight on (wire,
   * command fetch). `span.length` may be less than `length` where backing memory is not contiguous:
   * call again for the rest. Counted as a read. The loan ends when control returns to the fabric.
   */
  borrow(address: number, length: number, span: Span): number;
  /** Sends MSI-X or MSI vector `vector` if enabled and unmasked; else sets it pending. */
  interrupt(vector: number): void;
  /** Asks for `step()` from the next `poll` of the fabric. Idempotent. */
  wake(): void;
  /**
   * Functional mode: calls `client.settled(token)` before it returns. Timed mode: calls it once all
   * transfers issued since the last `settle` are done.
   */
  settle(client: SettleClient, token: number): void;
  /**
   * What is behind its BARs changed: `barRegions` is asked again, before this returns. Not from
   * inside a DMA of its own.
   */
  regionsChanged(): void;
  /** Simulated nanoseconds. Stands still in functional mode except when somebody sleeps. */
  nowNs(): number;
  /** Calls back after `delayNs`. In functional mode: as soon as nothing else is runnable. */
  after(delayNs: number, client: TimerClient, token: number): void;
}

export interface DeviceModel extends Inspectable {
  /** What stands behind the function, for people: `NVMe controller model`, `dumb memory`. */
  readonly kind: string;
  /** Called once when the model is put behind its function. */
  attach(port: DevicePort): void;
  /**
   * The parts of its BARs. Asked after `attach`, after resets and BAR resizes, and when the model
   * says so (`port.regionsChanged`).
   */
  barRegions(): readonly BarRegion[];
  /**
   * Where a memory BAR decodes on the bus, or -1 while it does not; told after `attach` and after
   * every change. For devices that must know their own addresses, as an NVMe controller with a CMB
   * of before NVM Express 1.4 must.
   */
  barMoved?(bar: number, busAddress: number): void;
  /**
   * A resizable BAR got another of its supported sizes. A model without this method has BARs of one
   * size: writes to the BAR Size field are not taken.
   */
  barResized?(bar: number, sizeBytes: number): void;
  /** Work asked for with `port.wake()`. Bounded: what is left over calls `wake` again. */
  step(): void;
  /** Function level reset or power-on. */
  reset(): void;
}
