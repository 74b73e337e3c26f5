#!/usr/bin/env node
/**
 * The installed command. It runs what `npm ci` (or `npm run build`) leaves in dist/, so that no
 * TypeScript loader runs at start: the planner's commands as one script with its compiled form
 * beside it, everything else as modules. When there is no bundle, it says what makes one.
 *
 * CommonJS, because Node loads its loader of modules only for those: a tenth of a start.
 */
const fs = require("node:fs");
const { dirname, join } = require("node:path");
const vm = require("node:vm");

const shipped = dirname(__dirname);
const bundle = join(shipped, "dist", "peerlane.mjs");
const script = join(shipped, "dist", "planner.script.js");
const cache = join(shipped, "dist", "planner.cache");

/**
 * What files are read into, one after another: touching new memory is most of what it costs to read
 * one. The dump of most machines fits too.
 */
let memory = Buffer.allocUnsafeSlow(1 << 20);

/** The file, until the next one is read; null where there is no such file. */
function read(path) {
  let handle;
  try {
    handle = fs.openSync(path, "r");
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
  try {
    const { size } = fs.fstatSync(handle);
    if (size > memory.length) memory = Buffer.allocUnsafeSlow(size);
    return memory.subarray(0, fs.readSync(handle, memory, 0, size, 0));
  } finally {
    fs.closeSync(handle);
  }
}

/**
 * True when the planner had the command. The engine refuses a compiled form of another version of
 * it, or of another script, without a word; then the script is compiled as ever.
 */
async function runPlanner() {
  const source = read(script)?.latin1Slice();
  if (source === undefined) return false;
  const compiled = new vm.Script(source, {
    filename: script,
    cachedData: read(cache) ?? undefined,
  });
  if (process.env.PEERLANE_WRITE_CACHE === "1") {
    process.once("exit", () => fs.writeFileSync(cache, compiled.createCachedData()));
  }
  const module = { exports: {} };
  compiled.runInThisContext()(module.exports, require, module);
  return module.exports.runPlanner(shipped, memory);
}

async function main() {
  if (await runPlanner()) return;
  if (fs.existsSync(bundle)) {
    await import(bundle);
    return;
  }
  process.stderr.write(
    "peerlane: dist/peerlane.mjs is missing: the command line is not built yet.\n" +
      "          Run `npm ci` (installs and builds), or `npm run build` when it is installed.\n",
  );
  process.exitCode = 1;
}

main().catch((error) => {
  process.stderr.write(`peerlane: internal error, please report it\n${error.stack ?? error}\n`);
  process.exitCode = 1;
});
