/**
 * A file with positioned, synchronous access: what stands behind a namespace or any other simulated
 * medium. Calls that move bytes do not throw, since a simulated device reports a failure as a
 * status of its own; opening does, with what to do about it.
 *
 * Synchronous on purpose: a device model completes a command inside one call, and a positioned read
 * of the page cache is faster than a turn of the event loop.
 */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { PeerlaneError } from "../core/index.ts";

export interface BlockFileOptions {
  /** Makes the file, `sizeBytes` long, when it is missing; extends one that is shorter. */
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
}

export class BlockFile {
  readonly path: string;
  private readonly fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /** Bytes in the file now. */
  get sizeBytes(): number {
    return fstatSync(this.fd).size;
  }

  /** Bytes read: fewer than `length` at the end of the file only; -1 on an error. */
  readAt(position: number, target: Uint8Array, targetOffset: number, length: number): number {
    let done = 0;
    try {
      while (done < length) {
        const got = readSync(this.fd, target, targetOffset + done, length - done, position + done);
        if (got === 0) break;
        done += got;
      }
    } catch {
      return -1;
    }
    return done;
  }

  /** Bytes written: `length`; -1 on an error, a full disk included. */
  writeAt(position: number, source: Uint8Array, sourceOffset: number, length: number): number {
    let done = 0;
    try {
      while (done < length) {
        done += writeSync(this.fd, source, sourceOffset + done, length - done, position + done);
      }
    } catch {
      return -1;
    }
    return done;
  }

  /** 0 once everything written is on the medium; -1 on an error. */
  sync(): number {
    try {
      fdatasyncSync(this.fd);
      return 0;
    } catch {
      return -1;
    }
  }

  /** Cuts the file, or extends it with zeros that use no space. 0, or -1 on an error. */
  truncate(sizeBytes: number): number {
    try {
      ftruncateSync(this.fd, sizeBytes);
      return 0;
    } catch {
      return -1;
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Opens a file for positioned access. Throws `block-file` with the path and the host's reason. */
export function openBlockFile(path: string, options: BlockFileOptions = {}): BlockFile {
  const { sizeBytes = 0, readOnly = false } = options;
  const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT;
  let fd: number | null = null;
  try {
    fd = openSync(path, flags, 0o644);
    const file = new BlockFile(path, fd);
    if (!readOnly && file.sizeBytes < sizeBytes) ftruncateSync(fd, sizeBytes);
    return file;
  } catch (cause) {
    if (fd !== null) closeSync(fd);
    throw new PeerlaneError("block-file", `cannot open ${path}: ${(cause as Error).message}`, {
      place: path,
      remedy: "Check the path, its permissions and the free space of its file system.",
      details: { path, errno: (cause as NodeJS.ErrnoException).code ?? "unknown" },
      cause,
    });
  }
}
