/**
 * A file that is only ever appended to, such as a capture: what was appended is in the system's
 * page cache when `append` returns, so a killed process loses nothing of it. Synchronous: when the
 * disk is slower than what is recorded, the recorder waits, and nothing is dropped or piles up.
 *
 * Invariants: it belongs to its owner alone (0600), since it holds users' data; no file that
 * exists is overwritten unless that was asked for, and never one that is no regular file; after an
 * error the file ends where the last whole `append` ended.
 */
import { closeSync, ftruncateSync, lstatSync, openSync, unlinkSync, writeSync } from "node:fs";
import { PeerlaneError } from "../core/index.ts";

export interface RecordFile {
  readonly path: string;
  /** Throws `record-file`: the file is full, or gone bad. Then only `close` makes sense. */
  append(bytes: Uint8Array): void;
  close(): void;
}

export interface RecordFiles {
  /** Throws `file-exists`, `record-file`. */
  create(path: string, overwrite: boolean): RecordFile;
}

const OWNER_ONLY = 0o600;

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "check the path: the folder must be there",
  EACCES: "choose a folder that this user may write to",
  ENOSPC: "free some space, or record to another file system",
  EDQUOT: "free some space of this user's quota, or record to another file system",
};

function failure(what: string, path: string, cause: unknown): PeerlaneError {
  const errno = (cause as NodeJS.ErrnoException).code ?? "unknown";
  return new PeerlaneError("record-file", `cannot ${what} ${path}: ${(cause as Error).message}`, {
    place: path,
    remedy: REMEDIES[errno] ?? "check the path and the file system it is on",
    details: { errno },
    cause,
  });
}

function exists(path: string, why: string, remedy: string): PeerlaneError {
  return new PeerlaneError("file-exists", `${path} ${why}`, { place: path, remedy });
}

/** Takes a regular file away; refuses what is none: a device, a link to somewhere. */
function makeRoom(path: string, overwrite: boolean): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isFile()) throw exists(path, "is no regular file", "choose another path");
  if (!overwrite) {
    throw exists(path, "exists already", "choose another path, or remove it");
  }
  unlinkSync(path);
}

class RealRecordFile implements RecordFile {
  readonly path: string;
  #fd: number;
  #size = 0;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  append(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
      this.#size += bytes.length;
    } catch (cause) {
      // Best effort: a reader copes with a cut block, but need not.
      try {
        ftruncateSync(this.#fd, this.#size);
      } catch {
        // The failure that led here is the one to tell.
      }
      throw failure("write", this.path, cause);
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}

export const realRecordFiles: RecordFiles = {
  create(path, overwrite) {
    try {
      makeRoom(path, overwrite);
      // Exclusive: whoever makes it meanwhile keeps it, and no link is followed.
      return new RealRecordFile(path, openSync(path, "wx", OWNER_ONLY));
    } catch (cause) {
      if (cause instanceof PeerlaneError) throw cause;
      throw failure("create", path, cause);
    }
  },
};
