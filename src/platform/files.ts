/**
 * Files. Every read has a limit, so that a wrong path (a disk image, /dev/zero) fails with a
 * sentence instead of filling memory, and every failure names the path and what to do about it.
 *
 * Leaves out: streaming. Inputs are dumps of a few MiB; whoever needs more adds it here.
 */
import { isAscii } from "node:buffer";
import { closeSync, type Dirent, openSync, promises, readSync, statSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { PeerlaneError } from "../core/index.ts";

export type EntryKind = "file" | "directory" | "symlink" | "other";

export interface DirectoryEntry {
  readonly name: string;
  readonly kind: EntryKind;
}

export interface Files {
  /** Whole file, or a `file-too-large` error when it holds more than `limit` bytes. */
  readBytes(path: string, limit: number): Promise<Uint8Array>;
  /** The same as UTF-8. Bytes that are not UTF-8 become U+FFFD; a leading BOM is dropped. */
  readText(path: string, limit: number): Promise<string>;
  /** Entries by name, in code-unit order: the host's order never reaches a report. */
  list(path: string): Promise<DirectoryEntry[]>;
  /** Where a symbolic link points, as written in it. */
  readLink(path: string): Promise<string>;
  /** Writes all or nothing; makes the folder when it is missing. */
  write(path: string, data: string | Uint8Array): Promise<void>;
  /**
   * The same for state that must survive a power loss: when it resolves the new contents are on the
   * medium under this name, and at any moment before the file holds the old ones or the new ones,
   * whole. Two syncs: milliseconds on a disk. One at a time per path.
   */
  replace(path: string, data: string | Uint8Array): Promise<void>;
}

/** Read in pieces: `stat` says 0 for files of /proc and /sys, and files grow. */
const CHUNK_BYTES = 64 * 1024;

/** Memory for so many bytes, which whoever reads the file then owns. */
type Allocate = (sizeBytes: number) => Uint8Array;

const newMemory: Allocate = (sizeBytes) => Buffer.allocUnsafeSlow(sizeBytes);

async function readWithLimit(
  path: string,
  limit: number,
  allocate = newMemory,
): Promise<Uint8Array> {
  try {
    return readRegular(path, limit, allocate) ?? (await readStream(path, limit));
  } catch (cause) {
    throw explain("read", path, cause);
  }
}

/**
 * A regular file, at once: a dump is in memory before a thread would have been woken for it. Null
 * for what is none, says no size, or grows meanwhile.
 */
function readRegular(path: string, limit: number, allocate: Allocate): Uint8Array | null {
  const stat = statSync(path);
  if (!stat.isFile() || stat.size === 0) return null;
  if (stat.size > limit) throw tooLarge(path, limit);
  const handle = openSync(path, "r");
  try {
    const bytes = allocate(stat.size + 1);
    let length = 0;
    for (;;) {
      const count = readSync(handle, bytes, length, bytes.length - length, null);
      length += count;
      if (length === bytes.length) return null;
      if (count === 0) return new Uint8Array(bytes.buffer, bytes.byteOffset, length);
    }
  } finally {
    closeSync(handle);
  }
}

async function readStream(path: string, limit: number): Promise<Uint8Array> {
  let handle: FileHandle | undefined;
  try {
    handle = await promises.open(path, "r");
    let bytes = new Uint8Array(Math.min(limit, CHUNK_BYTES) + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(bytes, length, bytes.length - length);
      length += bytesRead;
      if (length > limit) throw tooLarge(path, limit);
      if (bytesRead === 0) return bytes.slice(0, length);
      if (length === bytes.length) {
        const larger = new Uint8Array(Math.min(limit + 1, bytes.length * 2));
        larger.set(bytes);
        bytes = larger;
      }
    }
  } finally {
    await handle?.close();
  }
}

async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  // Beside the target, because a rename is atomic within one file system only.
  const partial = `${path}.partial`;
  try {
    await promises.mkdir(dirname(path), { recursive: true });
    await promises.writeFile(partial, data);
    await promises.rename(partial, path);
  } catch (cause) {
    await promises.rm(partial, { force: true }).catch(() => undefined);
    throw explain("write", path, cause);
  }
}

async function replaceDurably(path: string, data: string | Uint8Array): Promise<void> {
  const partial = `${path}.partial`;
  try {
    await promises.mkdir(dirname(path), { recursive: true });
    // The contents first: a rename may reach the medium before what it names.
    const handle = await promises.open(partial, "w");
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await promises.rename(partial, path);
    const folder = await promises.open(dirname(path), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (cause) {
    await promises.rm(partial, { force: true }).catch(() => undefined);
    throw explain("replace", path, cause);
  }
}

async function listEntries(path: string): Promise<DirectoryEntry[]> {
  try {
    const entries = await promises.readdir(path, { withFileTypes: true });
    return entries
      .map((entry) => ({ name: entry.name, kind: kindOf(entry) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (cause) {
    throw explain("list", path, cause);
  }
}

function kindOf(entry: Dirent): EntryKind {
  if (entry.isFile()) return "file";
  if (entry.isDirectory()) return "directory";
  return entry.isSymbolicLink() ? "symlink" : "other";
}

/** UTF-8 as text, without a BOM; what is none becomes U+FFFD. Plain ASCII is only copied. */
export function textFrom(bytes: Uint8Array): string {
  return isAscii(bytes) ? textFromAscii(bytes) : new TextDecoder().decode(bytes);
}

/** Node keeps strings of this length (from 0xfbee9 on) outside the engine's heap. */
const OUTSIDE_HEAP_CHARS = 1 << 20;

/**
 * A text little shorter fills the engine's young heap and has it collected at once, so it is cut
 * from one that is outside, where there is memory behind the bytes to take along.
 */
function textFromAscii({ buffer, byteOffset, length }: Uint8Array): string {
  const isShorter = length > OUTSIDE_HEAP_CHARS / 2 && length < OUTSIDE_HEAP_CHARS;
  const isBehind = buffer.byteLength - byteOffset >= OUTSIDE_HEAP_CHARS;
  const taken = isShorter && isBehind ? OUTSIDE_HEAP_CHARS : length;
  return Buffer.from(buffer, byteOffset, taken).toString("latin1").slice(0, length);
}

export const realFiles: Files = {
  readBytes: (path, limit) => readWithLimit(path, limit),
  readText: async (path, limit) => textFrom(await readWithLimit(path, limit)),
  list: listEntries,
  readLink: async (path) => {
    try {
      return await promises.readlink(path);
    } catch (cause) {
      throw explain("read link", path, cause);
    }
  },
  write: writeWhole,
  replace: replaceDurably,
};

/**
 * The same files, of which the first that fits is read into `spare`, memory that nobody else uses
 * any more: where pages are dear, those of a dump cost more than what is read into them.
 */
export function realFilesInto(spare: Uint8Array): Files {
  let free: Uint8Array | null = spare;
  const allocate: Allocate = (sizeBytes) => {
    const bytes = free;
    if (bytes === null || bytes.length < sizeBytes) return newMemory(sizeBytes);
    free = null;
    return bytes.subarray(0, sizeBytes);
  };
  return { ...realFiles, readBytes: (path, limit) => readWithLimit(path, limit, allocate) };
}

function tooLarge(path: string, limit: number): PeerlaneError {
  return new PeerlaneError("file-too-large", `${path} holds more than ${limit} bytes`, {
    place: path,
    remedy: "Check that the path names the file you meant; a dump of one machine is a few MiB.",
    details: { path, limit },
  });
}

interface Explanation {
  readonly code: string;
  readonly says: string;
  readonly remedy: string;
}

/** What the host's error codes mean to the person who gave the path. */
const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  ENOENT: {
    code: "file-not-found",
    says: "no such file or folder",
    remedy: "Check the spelling; relative paths start at the current folder.",
  },
  ENOTDIR: {
    code: "not-a-folder",
    says: "part of the path is a file, not a folder",
    remedy: "Check each folder of the path.",
  },
  EISDIR: {
    code: "is-a-folder",
    says: "it is a folder",
    remedy: "Give the path of a file inside it.",
  },
  EACCES: {
    code: "permission-denied",
    says: "permission denied",
    remedy: "Check who may read and write it with `ls -l`; device files often need root.",
  },
  EPERM: {
    code: "permission-denied",
    says: "operation not permitted",
    remedy: "Run it as a user with the right to do so; device files often need root.",
  },
  ENOSPC: {
    code: "disk-full",
    says: "no space left on the device",
    remedy: "Free some space or write elsewhere.",
  },
};

function explain(verb: string, path: string, cause: unknown): PeerlaneError {
  if (cause instanceof PeerlaneError) return cause;
  const errno = (cause as NodeJS.ErrnoException).code ?? "unknown";
  const known = EXPLANATIONS[errno];
  return new PeerlaneError(
    known?.code ?? "file-error",
    `cannot ${verb} ${path}: ${known?.says ?? (cause as Error).message}`,
    {
      place: path,
      remedy: known?.remedy ?? "Check the path and the file system it is on.",
      details: { path, errno },
      cause,
    },
  );
}
