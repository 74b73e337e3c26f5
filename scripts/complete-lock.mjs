/**
 * Completes package-lock.json after `npm install`. Native tools list one package per platform as
 * optional dependencies. Where a registry mirror carries only some platforms, npm leaves the others
 * out of the lock, and then `npm ci` refuses the lock as out of step with package.json. This adds
 * them with what their names say (version, os, cpu), so that npm knows them and skips them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const OS = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "sunos", "win32"];
const CPU = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

/** `@x/binding-linux-arm-musleabihf` is for linux on arm; a name that says nothing fits nowhere. */
function platformOf(name) {
  const words = name.split("/").at(-1).split("-");
  const os = OS.find((word) => words.includes(word)) ?? "openharmony";
  const cpu = CPU.find((word) => words.includes(word)) ?? "wasm32";
  // Without its C library, a musl build would be fetched beside the glibc one, and the other way round.
  const libc = os !== "linux" ? undefined : [words.some((w) => /^musl/.test(w)) ? "musl" : "glibc"];
  return { os: [os], cpu: [cpu], libc };
}

const path = fileURLToPath(new URL("../package-lock.json", import.meta.url));
const lock = JSON.parse(readFileSync(path, "utf8"));
const added = [];
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] !== undefined || !/^\d+\.\d+\.\d+/.test(version)) continue;
    lock.packages[key] = { version, ...platformOf(name), dev: entry.dev, optional: true };
    added.push(name);
  }
}
if (added.length > 0) {
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, "en"));
  lock.packages = Object.fromEntries(sorted);
  writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
}
console.log(`package-lock.json: added ${added.length} packages of other platforms`);
