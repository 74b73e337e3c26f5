/**
 * A file on a medium that can lose power: what stands beneath a FileStore in tests. It records what
 * was written and synced; {@link PowerCutFile.afterCut} says what a cut at this moment leaves: all
 * that a finished sync covers, and of each sector written since, any one of the contents it had,
 * sector by sector, in no order. That is more than a real page cache would mix up, so what survives
 * here survives there.
 *
 * Calls answer at once, or, with `isDeferred`, when {@link PowerCutFile.settle} is called, as a
 * real sync does: what is written meanwhile is not covered. Calls can be made to fail.
 */

import { assert, type Prng } from "../src/core/index.ts";
import type { StoreFile } from "../src/fabric/index.ts";
import { FileStatus } from "../src/platform/index.ts";

interface Version {
  /** Number of the write that made it. */
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

interface Deferred {
  /** Writes up to this one are covered; -1: it is a hole, made already. */
  readonly sequence: number;
  readonly done: (status: number) => void;
}

export interface PowerCutOptions {
  /** Bytes that the medium writes whole. */
  readonly sectorBytes: number;
  readonly isDeferred?: boolean;
  /** The medium says that it has synced, and has not: what a test must notice. */
  readonly isLying?: boolean;
}

export class PowerCutFile implements StoreFile {
  readonly path = "/a/file/on/a/medium/that/loses/power";
  readOnly = false;
  canPunch = true;
  lastError: string | null = null;
  sizeBytes: number;
  syncs = 0;
  /** Answers of the next calls of a kind; a {@link FileStatus}. */
  readonly failing = { read: 0, write: 0, sync: 0, punch: 0, truncate: 0 };
  private readonly options: PowerCutOptions;
  /** What reads see. */
  private readonly live: Uint8Array;
  /** What is on the medium for sure. */
  private readonly durable: Uint8Array;
  /** By sector: contents since the last sync, oldest first. */
  private readonly versions = new Map<number, Version[]>();
  private sequence = 0;
  private readonly deferred: Deferred[] = [];

  /** `image` is what is on the medium. */
  constructor(image: Uint8Array, options: PowerCutOptions) {
    assert(image.length % options.sectorBytes === 0, "a medium is made of sectors");
    this.options = options;
    this.live = image.slice();
    this.durable = image.slice();
    this.sizeBytes = image.length;
  }

  readAt(position: number, target: Uint8Array, at: number, length: number): number {
    if (this.failing.read !== 0) return this.failing.read;
    const run = Math.max(0, Math.min(length, this.sizeBytes - position));
    target.set(this.live.subarray(position, position + run), at);
    return run;
  }

  writeAt(position: number, source: Uint8Array, at: number, length: number): number {
    if (this.failing.write !== 0) return this.failing.write;
    this.put(position, source.subarray(at, at + length));
    this.sizeBytes = Math.max(this.sizeBytes, position + length);
    return length;
  }

  private put(position: number, bytes: Uint8Array): void {
    const { sectorBytes } = this.options;
    this.live.set(bytes, position);
    this.sequence++;
    const last = Math.floor((position + bytes.length - 1) / sectorBytes);
    for (let sector = Math.floor(position / sectorBytes); sector <= last; sector++) {
      const from = sector * sectorBytes;
      const made = { sequence: this.sequence, bytes: this.live.slice(from, from + sectorBytes) };
      const known = this.versions.get(sector);
      if (known === undefined) this.versions.set(sector, [made]);
      else known.push(made);
    }
  }

  sync(done: (status: number) => void): number {
    this.syncs++;
    if (this.options.isDeferred === true) {
      this.deferred.push({ sequence: this.sequence, done });
      return FileStatus.pending;
    }
    return this.finishSync(this.sequence);
  }

  /** Everything up to write number `sequence` is on the medium now. */
  private finishSync(sequence: number): number {
    // What a failed sync was for counts as clean afterwards: the host's system forgets it.
    const isLost = this.failing.sync !== 0 || this.options.isLying === true;
    for (const [sector, versions] of this.versions) {
      const covered = versions.filter((version) => version.sequence <= sequence);
      const newest = covered.at(-1);
      if (newest === undefined) continue;
      if (!isLost) this.durable.set(newest.bytes, sector * this.options.sectorBytes);
      const rest = versions.slice(covered.length);
      if (rest.length === 0) this.versions.delete(sector);
      else this.versions.set(sector, rest);
    }
    return this.failing.sync;
  }

  punch(position: number, length: number, done: (status: number) => void): number {
    if (this.failing.punch === 0) this.put(position, new Uint8Array(length));
    if (this.options.isDeferred !== true) return this.failing.punch;
    this.deferred.push({ sequence: -1, done });
    return FileStatus.pending;
  }

  truncate(sizeBytes: number): number {
    if (this.failing.truncate !== 0) return this.failing.truncate;
    const kept = Math.min(sizeBytes, this.sizeBytes);
    if (kept < this.live.length) this.put(kept, new Uint8Array(this.live.length - kept));
    this.sizeBytes = sizeBytes;
    return FileStatus.ok;
  }

  /** Syncs and holes that are under way. */
  get deferredCount(): number {
    return this.deferred.length;
  }

  /** Ends the oldest one. */
  settle(): void {
    const next = this.deferred.shift();
    assert(next !== undefined, "something is under way");
    if (next.sequence < 0) next.done(this.failing.punch);
    else next.done(this.finishSync(next.sequence));
  }

  /** What is on the medium after a cut now. Nothing is changed: many cuts of one moment can be. */
  afterCut(prng: Prng): Uint8Array {
    const image = this.durable.slice();
    for (const [sector, versions] of this.versions) {
      const chosen = prng.below(versions.length + 1);
      if (chosen > 0) image.set(versions[chosen - 1].bytes, sector * this.options.sectorBytes);
    }
    return image;
  }
}
