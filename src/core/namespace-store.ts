/**
 * Where a namespace's bytes are: memory, or a file (fabric/devices/nvme). A store lends the place
 * where bytes are to go or come from, so that a transfer is one copy (memory), or one copy and one
 * positioned read or write (file). Statuses are NVMe statuses: a file that fails becomes a media
 * error. In core because the model of an SSD has stores and the target's store queue too, and the
 * two may not see each other.
 *
 * A store holds data from 0 to `capacityBytes` and metadata after it; it knows no blocks. Bytes
 * never written, and bytes zeroed, read as zeros.
 *
 * What a medium takes its time for (flush, deallocate) may be answered later, by `storeDone`.
 */

import type { Span } from "./copy.hot.ts";
import type { Tree } from "./tree.ts";

/** Answer of `flush` and `deallocate`: `storeDone` follows, never from inside the call. */
export const STORE_PENDING = -1;

/** Told what became of a flush or deallocate that was pending; `token` is what it gave. */
export interface StoreClient {
  storeDone(token: number, status: number): void;
}

export interface NamespaceStore {
  readonly kind: string;
  /** Bytes of data. Metadata may follow: up to an eighth more, and one page. */
  readonly capacityBytes: number;
  /** Nothing may be written: the medium takes no writes. */
  readonly readOnly: boolean;
  /** `deallocate` gives space back and makes the range read as zeros; else it does nothing. */
  readonly deallocates: boolean;
  /** Lends where up to `length` bytes at `offset` are. `span.length` says how many. */
  lend(offset: number, length: number, span: Span): number;
  /** Lends where up to `length` bytes at `offset` may be written; `commit` must follow. */
  lendForWrite(offset: number, length: number, span: Span): number;
  /** Ends a loan of `lendForWrite`: the first `length` bytes at `offset` are as in `span`. */
  commit(offset: number, length: number, span: Span): number;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number): number;
  /** Gives the space of a range back; `isDurable`: that is on the medium when it is answered. */
  deallocate(
    offset: number,
    length: number,
    isDurable: boolean,
    client: StoreClient,
    token: number,
  ): number;
  /** Makes everything that was committed before this call durable. */
  flush(client: StoreClient, token: number): number;
  inspect(): Tree;
}
