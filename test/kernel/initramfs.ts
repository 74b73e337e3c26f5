/**
 * Builds the guest's initramfs out of the kit: busybox, the programs with the libraries that they
 * need, kernel modules in an order in which they load, two scripts. Written as cpio (newc) here, so
 * that no tool of the machine is needed.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import { type Kit, kitCommand } from "./packages.ts";

/** Loaded by the guest's init, with what they depend on. Crypto modules are asked for by name. */
const MODULES = ["virtio_net", "ext4", "crc32c-cryptoapi", "ctr", "gcm", "tls", "nvme-tcp"];

/** In the kit, and where they go in the guest. */
const PROGRAMS: Record<string, string> = {
  "usr/sbin/nvme": "bin/nvme",
  "usr/bin/fio": "bin/fio",
  "usr/sbin/mke2fs": "bin/mkfs.ext4",
  "usr/sbin/e2fsck": "bin/fsck.ext4",
  "usr/bin/keyctl": "bin/keyctl",
  "usr/sbin/tlshd": "bin/tlshd",
};

export const HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-1111-4222-8333-444455556666";
export const HOST_ID = "5a5a5a5a-1111-4222-8333-444455556666";

const S_IFDIR = 0o040755;
const S_IFLNK = 0o120777;
const S_IFREG = 0o100755;
const S_IFCHR = 0o020600;

class Cpio {
  readonly #parts: Buffer[] = [];
  readonly #names = new Set<string>();
  #inode = 1;

  #add(name: string, mode: number, data: Buffer, rdev: readonly [number, number] = [0, 0]): void {
    if (this.#names.has(name)) return;
    const slash = name.lastIndexOf("/");
    if (slash > 0) this.folder(name.slice(0, slash));
    this.#names.add(name);
    this.#write(name, mode, data, rdev);
  }

  #write(name: string, mode: number, data: Buffer, rdev: readonly [number, number]): void {
    const path = Buffer.from(`${name}\0`);
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    const fields = [this.#inode++, mode, 0, 0, 1, 0, data.length, 0, 0, ...rdev, path.length, 0];
    const header = fields.map((value) => value.toString(16).padStart(8, "0")).join("");
    const head = Buffer.concat([Buffer.from(`070701${header}`), path]);
    this.#parts.push(head, padding(head.length), data, padding(data.length));
  }

  folder(name: string): void {
    this.#add(name, S_IFDIR, Buffer.alloc(0));
  }

  file(name: string, data: Buffer | string): void {
    this.#add(name, S_IFREG, Buffer.from(data as string));
  }

  link(name: string, to: string): void {
    this.#add(name, S_IFLNK, Buffer.from(to));
  }

  device(name: string, major: number, minor: number): void {
    this.#add(name, S_IFCHR, Buffer.alloc(0), [major, minor]);
  }

  finish(): Buffer {
    this.#write("TRAILER!!!", 0, Buffer.alloc(0), [0, 0]);
    return Buffer.concat(this.#parts);
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

/** Modules by name (`-` and `_` are one), with the names each depends on, from its `.modinfo`. */
function loadOrder(folder: string): string[] {
  const byName = new Map<string, string>();
  for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (file.endsWith(".ko")) byName.set(moduleName(file), join(folder, file));
  }
  const order: string[] = [];
  const visit = (name: string, by: string): void => {
    const path = byName.get(name.replaceAll("-", "_"));
    if (path === undefined)
      throw new Error(`kernel module ${name}, which ${by} needs, is not unpacked`);
    if (order.includes(path)) return;
    for (const needed of dependencies(path)) visit(needed, name);
    order.push(path);
  };
  for (const name of MODULES) visit(name, "the test");
  return order;
}

const moduleName = (file: string): string => basename(file, ".ko").replaceAll("-", "_");

/** The `depends=` record: NUL-terminated text in the module's file. */
function dependencies(path: string): string[] {
  const bytes = readFileSync(path);
  const at = bytes.indexOf("\0depends=");
  if (at < 0) return [];
  const from = at + "\0depends=".length;
  return bytes.toString("latin1", from, bytes.indexOf(0, from)).split(",").filter(Boolean);
}

/** Paths of the shared libraries that a program of the kit is linked to. */
function libraries(root: string, program: string): string[] {
  const [loader = ""] = kitCommand(root, program, []);
  const args = kitCommand(root, program, []).slice(1);
  const text = execFileSync(loader, ["--list", ...args], { encoding: "utf8" });
  return [...text.matchAll(/=> (\/\S+)/g)].map(([, path = ""]) => path);
}

/** The whole archive, uncompressed. */
export function buildInitramfs(kit: Kit): Buffer {
  const { root } = kit;
  const cpio = new Cpio();
  for (const name of ["proc", "sys", "dev", "tmp", "run", "mnt", "root", "etc", "sbin", "usr"]) {
    cpio.folder(name);
  }
  cpio.device("dev/console", 5, 1);
  const busybox = join(root, "usr/bin/busybox");
  cpio.file("bin/busybox", readFileSync(busybox));

  for (const [from, to] of Object.entries(PROGRAMS)) {
    cpio.file(to, readFileSync(join(root, from)));
    for (const path of libraries(root, from)) {
      if (path.includes("ld-linux")) continue;
      cpio.file(`lib/x86_64-linux-gnu/${basename(path)}`, readFileSync(realpathSync(path)));
    }
  }
  cpio.file(
    "lib64/ld-linux-x86-64.so.2",
    readFileSync(join(root, "usr/lib64/ld-linux-x86-64.so.2")),
  );
  for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n")) {
    cpio.link(`bin/${applet}`, "busybox");
  }

  const order = loadOrder(kit.modules);
  for (const path of order) cpio.file(`modules/${basename(path)}`, readFileSync(path));
  cpio.file("modules/order", `${order.map((path) => basename(path)).join("\n")}\n`);

  cpio.file("etc/mke2fs.conf", readFileSync(join(root, "etc/mke2fs.conf")));
  cpio.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
  cpio.file("etc/nvme/hostnqn", `${HOST_NQN}\n`);
  cpio.file("etc/nvme/hostid", `${HOST_ID}\n`);
  for (const script of ["init", "agent"]) {
    cpio.file(script, readFileSync(join(import.meta.dirname, "guest", script)));
  }
  return cpio.finish();
}
