/**
 * Everything the test needs that npm does not have: a kernel, QEMU and the guest's programs, as
 * packages of Debian 13 and its backports, through apt.
 *
 * Nothing is installed on the machine and none of its apt files is touched: apt gets a state folder
 * of its own whose dpkg status is empty, so that it fetches the packages with all that they depend
 * on; they are unpacked side by side, and their programs run by the dynamic loader that is among
 * them. So it works on any Debian or Ubuntu with apt-get and the Debian archive keyring, and does
 * not need root.
 *
 * What was unpacked stays in a cache folder, and a folder that is there is used as it is.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const RELEASE = "trixie";
/** nvme-tcp with TLS and in-band authentication: Debian 12's 6.1 and 13's 6.12 lack parts of them. */
const BACKPORTS = "trixie-backports";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

const PROGRAMS = [
  "busybox-static",
  "e2fsprogs",
  "fio",
  "keyutils",
  "ktls-utils",
  "nvme-cli",
  "qemu-system-x86",
  "xz-utils",
];
const KERNEL = "linux-image-amd64";

/** Folders of kernel modules that are kept: the rest is 100 MB that nobody loads. */
const MODULE_FOLDERS = [
  "arch/x86/crypto",
  "crypto",
  "drivers/block/loop*",
  "drivers/net/net_failover*",
  "drivers/net/virtio_net*",
  "drivers/nvme",
  "fs/ext4",
  "fs/jbd2",
  "fs/mbcache*",
  "lib",
  "net/core/failover*",
  "net/tls",
];

/** Only what it is made of; no documentation, no translations, no second language. */
const LEFT_OUT = [
  "./usr/share/doc",
  "./usr/share/man",
  "./usr/share/info",
  "./usr/share/locale",
  "./usr/share/lintian",
  "./usr/share/bug",
  "./usr/share/perl*",
  "./usr/lib/python3*",
  "./usr/lib/x86_64-linux-gnu/perl*",
  "./usr/lib/systemd",
];

/** Change it when what is made of the packages changes: it names the folder in the cache. */
const RECIPE = 1;

const SECONDS = 1000;
const APT_LIMIT_MS = 240 * SECONDS;
const UNPACK_LIMIT_MS = 240 * SECONDS;

/** What is unpacked in the cache. */
export interface Kit {
  /** Root of the unpacked packages. */
  readonly root: string;
  readonly vmlinuz: string;
  /** Decompressed modules (`*.ko`), in the folders of the kernel's own tree. */
  readonly modules: string;
  /** `package version`, for the log. */
  readonly versions: readonly string[];
}

/** Argument vector that runs a program of the kit with the kit's own libraries. */
export function kitCommand(root: string, program: string, args: readonly string[]): string[] {
  const libraries = ["", "/ceph"].map((sub) => join(root, `usr/lib/x86_64-linux-gnu${sub}`));
  const loader = join(root, "usr/lib64/ld-linux-x86-64.so.2");
  return [loader, "--library-path", libraries.join(":"), join(root, program), ...args];
}

function cacheFolder(): string {
  const { PEERLANE_KERNEL_CACHE, XDG_CACHE_HOME } = process.env;
  if (PEERLANE_KERNEL_CACHE) return PEERLANE_KERNEL_CACHE;
  return join(XDG_CACHE_HOME || join(homedir(), ".cache"), "peerlane", "test-kernel");
}

/** Finds the kit in the cache, or fetches it. Throws an error that says what to do. */
export async function prepareKit(say: (line: string) => void): Promise<Kit> {
  const recipe = JSON.stringify([RECIPE, BACKPORTS, KERNEL, PROGRAMS, MODULE_FOLDERS, LEFT_OUT]);
  const name = createHash("sha256").update(recipe).digest("hex").slice(0, 12);
  const folder = join(cacheFolder(), name);
  if (!existsSync(join(folder, "versions.txt"))) {
    say(`packages: none in ${folder} yet: fetching some 200 MB of Debian packages`);
    const partial = `${folder}.${process.pid}`;
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    try {
      await fetchInto(partial);
      await unpackIn(partial);
      // Another run may have been faster: what it made is as good.
      await rename(partial, folder).catch(() => undefined);
    } catch (error) {
      throw new Error(
        `cannot get the packages for the kernel test: ${describe(error)}\n` +
          `  remedy: it needs apt-get, dpkg-deb, tar, a Debian mirror in apt's sources with ` +
          `${BACKPORTS}, and ${KEYRING} (package debian-archive-keyring); ` +
          "PEERLANE_KERNEL_CACHE names another folder for the cache",
        { cause: error },
      );
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  }
  const versions = (await readFile(join(folder, "versions.txt"), "utf8")).trim().split("\n");
  return {
    root: join(folder, "root"),
    vmlinuz: join(folder, "vmlinuz"),
    modules: join(folder, "modules"),
    versions,
  };
}

function describe(error: unknown): string {
  const { message, stderr } = error as { message?: string; stderr?: string };
  const tail = (stderr ?? "").trim().split("\n").slice(-6).join("\n  ");
  return [message ?? String(error), tail].filter(Boolean).join("\n  ");
}

/** The mirror that this machine's apt uses already. */
async function mirror(): Promise<string> {
  const format = "$(REPO_URI)\t$(RELEASE)";
  const { stdout } = await run("apt-get", ["indextargets", "--format", format]);
  const isDebian = (release: string): boolean =>
    /^(bookworm|trixie|forky|stable|sid)$/.test(release);
  const found = stdout
    .split("\n")
    .map((line) => line.split("\t"))
    .find(([uri, release]) => isDebian(release ?? "") && !uri?.includes("security"));
  if (found?.[0] === undefined) throw new Error("no Debian mirror in apt's sources");
  return found[0];
}

async function fetchInto(folder: string): Promise<void> {
  const apt = join(folder, "apt");
  await mkdir(join(apt, "lists/partial"), { recursive: true });
  await mkdir(join(apt, "archives/partial"), { recursive: true });
  await writeFile(join(apt, "status"), "");
  const uri = await mirror();
  const sources = [RELEASE, BACKPORTS].map(
    (suite) => `deb [signed-by=${KEYRING}] ${uri} ${suite} main`,
  );
  await writeFile(join(apt, "sources.list"), `${sources.join("\n")}\n`);
  const settings: Record<string, string> = {
    "Dir::State::Lists": join(apt, "lists"),
    "Dir::State::status": join(apt, "status"),
    "Dir::Etc::SourceList": join(apt, "sources.list"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::Cache": apt,
    "Dir::Cache::archives": join(apt, "archives"),
    "APT::Architecture": "amd64",
    "APT::Install-Recommends": "false",
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    "Debug::NoLocking": "true",
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  const get = (...args: string[]) =>
    run("apt-get", [...options, "-qq", ...args], { timeout: APT_LIMIT_MS, maxBuffer: 1 << 26 });
  await get("update");
  await get("install", "--yes", "--download-only", ...PROGRAMS);
  await get("install", "--yes", "--download-only", "-t", BACKPORTS, KERNEL);
}

async function unpackIn(folder: string): Promise<void> {
  const root = join(folder, "root");
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await mkdir(join(root, "usr", name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  const archives = join(folder, "apt/archives");
  const packages = (await readdir(archives)).filter((file) => file.endsWith(".deb"));
  const unpack = (file: string, args: readonly string[]) =>
    run(
      "sh",
      ["-c", 'deb=$1; shift; dpkg-deb --fsys-tarfile "$deb" | tar -x "$@"', "sh"].concat([
        join(archives, file),
        "-C",
        root,
        "--no-same-owner",
        ...args,
      ]),
      { timeout: UNPACK_LIMIT_MS },
    );
  const versions: string[] = [];
  for (const file of packages) {
    const [name, version] = file.replace("%3a", ":").split("_");
    const isModules = /^linux-modules-\d/.test(file);
    const wanted = isModules
      ? ["--wildcards", ...MODULE_FOLDERS.map((path) => `./usr/lib/modules/*/kernel/${path}`)]
      : LEFT_OUT.map((path) => `--exclude=${path}`);
    await unpack(file, wanted);
    if (isModules || PROGRAMS.includes(name ?? "")) versions.push(`${name} ${version}`);
  }
  await rm(join(folder, "apt"), { recursive: true, force: true });

  const [release] = await readdir(join(root, "usr/lib/modules"));
  if (release === undefined) throw new Error(`${KERNEL} brought no kernel`);
  const tree = join(root, "usr/lib/modules", release);
  await rename(join(tree, "vmlinuz"), join(folder, "vmlinuz"));
  await rename(join(tree, "kernel"), join(folder, "modules"));
  const files = await readdir(join(folder, "modules"), { recursive: true });
  const packed = files
    .filter((file) => file.endsWith(".xz"))
    .map((f) => join(folder, "modules", f));
  const [loader = "", ...args] = kitCommand(root, "usr/bin/xz", ["-d", ...packed]);
  await run(loader, args, { timeout: UNPACK_LIMIT_MS });
  await writeFile(join(folder, "versions.txt"), `${versions.sort().join("\n")}\n`);
}
