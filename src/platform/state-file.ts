/**
 * A small text file that is replaced whole: what must survive a loss of power, and is either the
 * old or the new text whenever that comes. Synchronous, since who saves must know before it goes
 * on.
 *
 * How: a file beside it is written and synced, renamed over it, and the folder synced, so that the
 * new name is on the medium as well.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { PeerlaneError } from "../core/index.ts";

/** Larger than any state that is kept; a wrong path is not read into memory. */
const STATE_BYTES_MAX = 1024 * 1024;

export class StateFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** What was saved last; null when there is no file. Throws `state-file`. */
  load(): string | null {
    try {
      const bytes = readFileSync(this.path);
      if (bytes.length <= STATE_BYTES_MAX) return bytes.toString("utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw this.failed("read", cause);
    }
    throw new PeerlaneError("state-file", `${this.path} is too long for a saved state`, {
      place: this.path,
      remedy: `Give the path of a file that Peerlane made, of at most ${STATE_BYTES_MAX} bytes.`,
    });
  }

  /** On the medium, whole, before it returns. Throws `state-file`; the old text is there then. */
  save(text: string): void {
    const partial = `${this.path}.partial`;
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      const fd = openSync(partial, "w", 0o600);
      try {
        writeFileSync(fd, text);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(partial, this.path);
      syncFolder(dirname(this.path));
    } catch (cause) {
      discard(partial);
      throw this.failed("write", cause);
    }
  }

  private failed(what: string, cause: unknown): PeerlaneError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new PeerlaneError("state-file", `cannot ${what} ${this.path}: ${reason}`, {
      place: this.path,
      remedy: "Check the path, its permissions and the free space of its file system.",
      cause,
    });
  }
}

/** Best effort: the failure that led here is the one to tell. */
function discard(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // What cannot be removed is overwritten by the next save, or fails it.
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
