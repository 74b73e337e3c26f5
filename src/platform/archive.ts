/**
 * Archives: gzip, bzip2, xz and tar, decoded in memory with a limit on what comes out, because
 * dumps come from strangers: a few hundred bytes can unpack to gigabytes. Damage is an error that
 * says what is wrong, never a shorter result.
 *
 * Leaves out: zstd where Node does not decode it (before 22.15); {@link packingOf} names it so that
 * the caller can tell the user which command does. Nothing is written to disk, so a path in a tar
 * cannot reach outside it; entries that try are counted and dropped.
 */
import { getBuiltinModule } from "node:process";
import type { gunzipSync } from "node:zlib";
import type { Header } from "tar-stream";
import { PeerlaneError, TAR_ENTRIES_MAX, TAR_PATH_CHARS_MAX } from "../core/index.ts";
import { Bzip2LimitError, decodeBzip2 } from "./bzip2.ts";

export type Packing = "gzip" | "bzip2" | "xz" | "zstd" | "tar";

const MAGIC: readonly (readonly [Packing, number, readonly number[]])[] = [
  ["gzip", 0, [0x1f, 0x8b]],
  ["bzip2", 0, [0x42, 0x5a, 0x68]],
  ["xz", 0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", 0, [0x28, 0xb5, 0x2f, 0xfd]],
  ["tar", 257, [0x75, 0x73, 0x74, 0x61, 0x72]],
];

/** How the bytes are packed, from their first bytes; null when they are not. */
export function packingOf(bytes: Uint8Array): Packing | null {
  for (const [packing, offset, magic] of MAGIC) {
    if (magic.every((byte, index) => bytes[offset + index] === byte)) return packing;
  }
  return null;
}

/**
 * Decodes gzip (all members). Throws `archive-too-large` beyond `limit` bytes, `archive-damaged`.
 */
export function gunzip(bytes: Uint8Array, limit: number, place: string): Uint8Array {
  try {
    // Loaded when a packed file is met: most are not, and a command should answer at once.
    const { gunzipSync } = getBuiltinModule("node:zlib");
    return gunzipSync(bytes, { maxOutputLength: limit });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw code === "ERR_BUFFER_TOO_LARGE" ? tooLarge(place, limit) : damaged(place, "gzip", cause);
  }
}

/** Decodes bzip2 (all streams). Errors as {@link gunzip}. */
export function bunzip2(bytes: Uint8Array, limit: number, place: string): Uint8Array {
  try {
    return decodeBzip2(bytes, limit);
  } catch (cause) {
    if (cause instanceof Bzip2LimitError) throw tooLarge(place, limit);
    throw damaged(place, "bzip2", cause);
  }
}

/** Decodes xz (all streams). Errors as {@link gunzip}. */
export async function unxz(bytes: Uint8Array, limit: number, place: string): Promise<Uint8Array> {
  // Loaded when a file of it is met.
  const { decodeXz, XzLimitError } = await import("./xz.ts");
  try {
    return decodeXz(bytes, limit);
  } catch (cause) {
    if (cause instanceof XzLimitError) throw tooLarge(place, limit);
    throw damaged(place, "xz", cause);
  }
}

/** Decodes zstd where this Node does (22.15 and later); null where it does not. */
export function unzstd(bytes: Uint8Array, limit: number, place: string): Uint8Array | null {
  const zlib = getBuiltinModule("node:zlib") as { readonly zstdDecompressSync?: typeof gunzipSync };
  if (zlib.zstdDecompressSync === undefined) return null;
  try {
    return zlib.zstdDecompressSync(bytes, { maxOutputLength: limit });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw code === "ERR_BUFFER_TOO_LARGE" ? tooLarge(place, limit) : damaged(place, "zstd", cause);
  }
}

export interface TarEntry {
  /** Relative, `/` between parts, without `.`, `..` or empty parts. */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink";
  /** As written in the archive, for symlinks; empty otherwise. */
  readonly target: string;
  readonly bytes: Uint8Array;
}

export interface Tar {
  readonly entries: readonly TarEntry[];
  /** Entries that were left out because their path leaves the archive, is too long, or they are
   * neither file, folder nor symbolic link. */
  readonly dropped: number;
}

/** `a/./b//c` as `a/b/c`; null for a path that leaves its root or is unreasonably long. */
function cleanPath(path: string): string | null {
  if (path.length > TAR_PATH_CHARS_MAX || path.includes("\0")) return null;
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") ? null : parts.join("/");
}

/** A hard link takes the bytes of the entry it names; the archive has that one first. */
function entryOf(
  header: Header,
  bytes: Uint8Array,
  seen: Map<string, Uint8Array>,
): TarEntry | null {
  const path = cleanPath(header.name);
  if (path === null || path === "") return null;
  switch (header.type) {
    case "directory":
      return { path, kind: "directory", target: "", bytes: EMPTY };
    case "symlink":
      return { path, kind: "symlink", target: header.linkname, bytes: EMPTY };
    case "file":
    case "contiguous-file":
      seen.set(path, bytes);
      return { path, kind: "file", target: "", bytes };
    case "link": {
      const linked = seen.get(cleanPath(header.linkname) ?? "");
      return linked === undefined ? null : { path, kind: "file", target: "", bytes: linked };
    }
    default:
      return null;
  }
}

const EMPTY = new Uint8Array(0);

/**
 * Reads a whole tar (ustar, pax, GNU long names). `wanted` says which files' bytes to keep; others
 * stay in the list, empty. Throws `archive-damaged`, `archive-too-large` ({@link TAR_ENTRIES_MAX}).
 */
export async function untar(
  bytes: Uint8Array,
  place: string,
  wanted: (path: string) => boolean = () => true,
): Promise<Tar> {
  const entries: TarEntry[] = [];
  const seen = new Map<string, Uint8Array>();
  let dropped = 0;
  // Loaded when a tar is met: no other input needs it.
  const { extract } = await import("tar-stream");
  const reader = extract();
  reader.end(bytes);
  try {
    for await (const stream of reader) {
      const chunks: Uint8Array[] = [];
      const keep = wanted(cleanPath(stream.header.name) ?? "");
      for await (const chunk of stream as AsyncIterable<Uint8Array>) if (keep) chunks.push(chunk);
      const entry = entryOf(stream.header, join(chunks), seen);
      if (entry === null) dropped++;
      else entries.push(entry);
      if (entries.length + dropped > TAR_ENTRIES_MAX) {
        throw new PeerlaneError(
          "archive-too-large",
          `${place} holds more than ${TAR_ENTRIES_MAX} files`,
          {
            place,
            remedy: "Pack only what is needed: the folders sys, proc and sos_commands/pci.",
          },
        );
      }
    }
  } catch (cause) {
    throw cause instanceof PeerlaneError ? cause : damaged(place, "tar", cause);
  }
  return { entries, dropped };
}

/** One chunk is the usual case, since the reader is given one: then it is a view, not a copy. */
function join(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length <= 1) return chunks[0] ?? EMPTY;
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

function tooLarge(place: string, limit: number): PeerlaneError {
  return new PeerlaneError("archive-too-large", `${place} unpacks to more than ${limit} bytes`, {
    place,
    remedy: "Unpack it by hand and give the file that describes the PCI devices.",
    details: { limit },
  });
}

function damaged(place: string, what: string, cause: unknown): PeerlaneError {
  const reason = typeof cause === "string" ? cause : (cause as Error).message;
  return new PeerlaneError("archive-damaged", `${place} is not a whole ${what} file: ${reason}`, {
    place,
    remedy: "Copy it again; compare its size with the original's.",
    cause,
  });
}
