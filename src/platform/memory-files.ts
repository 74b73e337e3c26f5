/**
 * Files in memory, behind the same interface as the real ones: an unpacked tar of someone's /sys, a
 * fake tree in a test. Symbolic links are followed inside the tree only; a link that leaves it or
 * loops is a missing file, as it is on a machine without its target.
 *
 * A path may be marked unreadable, so that tests see what a user without rights sees.
 */
import { PeerlaneError, SYMLINKS_MAX } from "../core/index.ts";
import type { TarEntry } from "./archive.ts";
import type { DirectoryEntry, EntryKind, Files } from "./files.ts";

interface Node {
  kind: EntryKind;
  bytes: Uint8Array;
  target: string;
  readable: boolean;
  readonly children: Map<string, Node>;
}

const EMPTY = new Uint8Array(0);

const newNode = (kind: EntryKind): Node => ({
  kind,
  bytes: EMPTY,
  target: "",
  readable: true,
  children: new Map(),
});

const partsOf = (path: string): string[] =>
  path.split("/").filter((part) => part !== "" && part !== ".");

export class MemoryFiles implements Files {
  readonly #root = newNode("directory");

  /** Puts a file; folders on the way are made. Text is kept as UTF-8. */
  addFile(path: string, data: string | Uint8Array): this {
    const node = this.#make(path, "file");
    node.bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    return this;
  }

  addDirectory(path: string): this {
    this.#make(path, "directory");
    return this;
  }

  addSymlink(path: string, target: string): this {
    this.#make(path, "symlink").target = target;
    return this;
  }

  /** Reading the file fails with `permission-denied` from now on. */
  deny(path: string): this {
    this.#find(path).readable = false;
    return this;
  }

  static fromTar(entries: readonly TarEntry[]): MemoryFiles {
    const files = new MemoryFiles();
    for (const { path, kind, target, bytes } of entries) {
      if (kind === "directory") files.addDirectory(path);
      else if (kind === "symlink") files.addSymlink(path, target);
      else files.addFile(path, bytes);
    }
    return files;
  }

  async readBytes(path: string, limit: number): Promise<Uint8Array> {
    const node = this.#find(path);
    if (node.kind === "directory") throw failure("is-a-folder", path, "it is a folder");
    if (!node.readable) throw failure("permission-denied", path, "permission denied");
    if (node.bytes.length > limit) {
      throw failure("file-too-large", path, `it holds more than ${limit} bytes`);
    }
    return node.bytes;
  }

  async readText(path: string, limit: number): Promise<string> {
    return new TextDecoder().decode(await this.readBytes(path, limit));
  }

  async list(path: string): Promise<DirectoryEntry[]> {
    const node = this.#find(path);
    if (node.kind !== "directory") throw failure("not-a-folder", path, "it is not a folder");
    return [...node.children]
      .map(([name, child]) => ({ name, kind: child.kind }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async readLink(path: string): Promise<string> {
    const parts = partsOf(path);
    const name = parts.pop();
    const link = name === undefined ? undefined : this.#walk(parts)?.children.get(name);
    if (link?.kind !== "symlink") throw failure("file-not-found", path, "no such symbolic link");
    return link.target;
  }

  async write(path: string, data: string | Uint8Array): Promise<void> {
    this.addFile(path, data);
  }

  async replace(path: string, data: string | Uint8Array): Promise<void> {
    this.addFile(path, data);
  }

  #find(path: string): Node {
    const node = this.#walk(partsOf(path));
    if (node === null) throw failure("file-not-found", path, "no such file or folder");
    return node;
  }

  /** Follows links by putting their parts in front of what is left to walk. */
  #walk(parts: readonly string[]): Node | null {
    const left = [...parts].reverse();
    let trail: Node[] = [this.#root];
    let links = 0;
    while (left.length > 0) {
      const part = left.pop() as string;
      if (part === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const next = trail[trail.length - 1].children.get(part);
      if (next === undefined) return null;
      if (next.kind !== "symlink") {
        trail.push(next);
        continue;
      }
      if (++links > SYMLINKS_MAX) return null;
      if (next.target.startsWith("/")) trail = [this.#root];
      left.push(...partsOf(next.target).reverse());
    }
    return trail[trail.length - 1];
  }

  /** Does not follow links: an archive that puts files below a link of its own gets a folder. */
  #make(path: string, kind: EntryKind): Node {
    let node = this.#root;
    for (const part of partsOf(path).filter((part) => part !== "..")) {
      let next = node.children.get(part);
      if (next === undefined) {
        next = newNode("directory");
        node.children.set(part, next);
      }
      node = next;
    }
    if (node !== this.#root && (kind !== "directory" || node.children.size === 0)) node.kind = kind;
    return node;
  }
}

function failure(code: string, path: string, says: string): PeerlaneError {
  return new PeerlaneError(code, `cannot read ${path}: ${says}`, { place: path });
}
