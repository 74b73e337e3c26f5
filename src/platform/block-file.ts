/**
 * A file with positioned access: what stands behind a namespace or any other simulated medium.
 * Calls that move bytes do not throw, since a simulated device reports a failure as a status of its
 * own; opening does, with what to do about it.
 *
 * Reads and writes are synchronous: a positioned read or write of the page cache costs the reactor
 * less than handing it to another thread (`npm run bench -- file-sync`). What waits for a medium by
 * its nature is not: `sync` and `punch` answer later, from the event loop.
 *
 * Invariants: one process at a time may write a file that was opened with `lock` (flock, kept by
 * the open file: it goes with the process, however that ends); nothing is in flight after `idle`.
 *
 * Leaves out: block devices (Node cannot ask their size), direct I/O, reads that are not in the
 * page cache (they block for as long as the disk takes).
 */
import {
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { PeerlaneError } from "../core/index.ts";
import { HolePuncher, lockAndProbe, Probe } from "./file-tools.ts";

/** What a call answers besides a count of bytes. Negative, so it is never taken for one. */
export const FileStatus = {
  ok: 0,
  error: -1,
  /** The file system is full, a quota or the largest file size is reached. */
  noSpace: -2,
  /** The file, or its file system, takes no writes. */
  readOnly: -3,
  /** The answer comes later. */
  pending: -4,
} as const;
export type FileStatus = (typeof FileStatus)[keyof typeof FileStatus];

export interface BlockFileOptions {
  /** Makes the file, `sizeBytes` long, when it is missing; extends one that is shorter. */
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
  /** Takes the file for this process, shared with others that only read. Default false. */
  readonly lock?: boolean;
  /** Called after each answer that came later: poll. */
  readonly wake?: () => void;
}

const NO_OP = (): void => undefined;

export class BlockFile {
  readonly path: string;
  readonly readOnly: boolean;
  /** `punch` frees space; else it is refused. */
  readonly canPunch: boolean;
  /** Why the last call failed: the host's errno, for people; null: none has. */
  lastError: string | null = null;
  private readonly fd: number;
  private readonly wake: () => void;
  private readonly puncher: HolePuncher | null;
  private inFlight = 0;
  private onIdle: () => void = NO_OP;

  constructor(
    path: string,
    fd: number,
    options: { readOnly: boolean; canPunch: boolean; wake: () => void },
  ) {
    this.path = path;
    this.fd = fd;
    this.readOnly = options.readOnly;
    this.canPunch = options.canPunch;
    this.wake = options.wake;
    this.puncher = options.canPunch ? new HolePuncher(fd) : null;
  }

  /** Bytes in the file now. */
  get sizeBytes(): number {
    return fstatSync(this.fd).size;
  }

  /** Bytes of its file system that the file uses now. */
  get usedBytes(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  /** Bytes read: fewer than `length` at the end of the file only; or a {@link FileStatus}. */
  readAt(position: number, target: Uint8Array, targetOffset: number, length: number): number {
    let done = 0;
    try {
      while (done < length) {
        const got = readSync(this.fd, target, targetOffset + done, length - done, position + done);
        if (got === 0) break;
        done += got;
      }
    } catch (cause) {
      return this.failed(cause);
    }
    return done;
  }

  /**
   * Bytes written: `length`, or a {@link FileStatus}; then the range may hold old and new bytes.
   */
  writeAt(position: number, source: Uint8Array, sourceOffset: number, length: number): number {
    if (this.readOnly) return FileStatus.readOnly;
    let done = 0;
    try {
      while (done < length) {
        done += writeSync(this.fd, source, sourceOffset + done, length - done, position + done);
      }
    } catch (cause) {
      return this.failed(cause);
    }
    return done;
  }

  /** Puts everything written so far on the medium (fdatasync) and then calls `done`. */
  sync(done: (status: number) => void): number {
    this.inFlight++;
    fdatasync(this.fd, (error) => this.ended(done, error === null ? 0 : this.failed(error)));
    return FileStatus.pending;
  }

  /** The same at once: for the end of a run. A {@link FileStatus}. */
  syncNow(): number {
    try {
      fdatasyncSync(this.fd);
      return FileStatus.ok;
    } catch (cause) {
      return this.failed(cause);
    }
  }

  /** Makes a range read as zeros and gives its space back. Answers in the order of the calls. */
  punch(position: number, length: number, done: (status: number) => void): number {
    const { puncher } = this;
    if (puncher === null) return FileStatus.error;
    this.inFlight++;
    puncher.punch(position, length, (isDone) => {
      if (!isDone) this.lastError = "fallocate failed";
      this.ended(done, isDone ? FileStatus.ok : FileStatus.error);
    });
    return FileStatus.pending;
  }

  private ended(done: (status: number) => void, status: number): void {
    this.inFlight--;
    done(status);
    if (this.inFlight === 0) this.onIdle();
    this.wake();
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.inFlight === 0) resolve();
      else this.onIdle = resolve;
    });
  }

  /** Cuts the file, or extends it with zeros that use no space. A {@link FileStatus}. */
  truncate(sizeBytes: number): number {
    if (this.readOnly) return FileStatus.readOnly;
    try {
      ftruncateSync(this.fd, sizeBytes);
      return FileStatus.ok;
    } catch (cause) {
      return this.failed(cause);
    }
  }

  /** Nothing may be in flight. */
  close(): void {
    this.puncher?.close();
    closeSync(this.fd);
  }

  private failed(cause: unknown): number {
    const errno = errnoOf(cause);
    this.lastError = errno;
    return STATUS_OF_ERRNO[errno] ?? FileStatus.error;
  }
}

const STATUS_OF_ERRNO: Readonly<Record<string, number>> = {
  ENOSPC: FileStatus.noSpace,
  EDQUOT: FileStatus.noSpace,
  EFBIG: FileStatus.noSpace,
  EROFS: FileStatus.readOnly,
};

const errnoOf = (cause: unknown): string => (cause as NodeJS.ErrnoException).code ?? "unknown";

/**
 * Opens a file for positioned access. Throws `block-file` with the path and the host's reason,
 * `block-file-kind` for what is no regular file, `block-file-locked` when somebody else has it, and
 * `block-file-tools` when the program that locks is missing.
 */
export function openBlockFile(path: string, options: BlockFileOptions = {}): BlockFile {
  const { sizeBytes = 0, readOnly = false, lock = false, wake = NO_OP } = options;
  const creates = !readOnly && sizeBytes > 0 ? constants.O_CREAT : 0;
  const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR | creates;
  let fd: number | null = null;
  try {
    fd = openSync(path, flags, 0o644);
    const found = fstatSync(fd);
    if (!found.isFile()) throw notRegular(path);
    const probed = lock ? lockAndProbe(fd, readOnly, found.size) : Probe.plain;
    refuseUnlessLocked(path, probed);
    if (!readOnly && found.size < sizeBytes) extend(path, fd, sizeBytes);
    return new BlockFile(path, fd, { readOnly, canPunch: probed === Probe.punches, wake });
  } catch (cause) {
    if (fd !== null) closeSync(fd);
    if (cause instanceof PeerlaneError) throw cause;
    throw cannotOpen(path, cause);
  }
}

/** A new file, or a new size, is on the medium before anything is promised about its contents. */
function extend(path: string, fd: number, sizeBytes: number): void {
  ftruncateSync(fd, sizeBytes);
  fsyncSync(fd);
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function refuseUnlessLocked(path: string, probed: Probe): void {
  if (probed === Probe.locked) {
    throw new PeerlaneError("block-file-locked", `${path} is in use by another program`, {
      place: path,
      remedy: `stop the other target (\`fuser ${path}\` names it), or serve a copy of the file`,
    });
  }
  if (probed === Probe.noTools) {
    throw new PeerlaneError("block-file-tools", `${path} cannot be locked: no program flock`, {
      place: path,
      remedy: "install util-linux, which has it",
    });
  }
}

function notRegular(path: string): PeerlaneError {
  return new PeerlaneError("block-file-kind", `${path} is no regular file`, {
    place: path,
    remedy: "name a file; folders, block devices and pipes are not served",
  });
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "Check the path; a file that is missing is made when its size is given.",
  EACCES: "Check who may write it with `ls -l`, or serve it read-only.",
  EROFS: "Serve it read-only, or from a file system that takes writes.",
  ENOSPC: "Free some space on its file system.",
};

function cannotOpen(path: string, cause: unknown): PeerlaneError {
  const errno = errnoOf(cause);
  return new PeerlaneError("block-file", `cannot open ${path}: ${(cause as Error).message}`, {
    place: path,
    remedy:
      REMEDIES[errno] ?? "Check the path, its permissions and the free space of its file system.",
    details: { path, errno },
    cause,
  });
}
