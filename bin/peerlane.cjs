#!/usr/bin/env node
/**
 * The installed command. It runs what `npm ci` (or `npm run build`) leaves in dist/, so that no
 * TypeScript loader runs at start: the planner's commands as one script with its compiled form
 * beside it, everything else as modules. When there is no bundle, it says what makes one.
 *
 * CommonJS, because Node loads its loader of modules only for those: a tenth of a start.
 */
const { readFileSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { dirname, join } = require("node:path");
const vm = require("node:vm");

const shipped = dirname(__dirname);
const bundle = join(shipped, "dist", "peerlane.mjs");
const script = join(shipped, "dist", "planner.script.js");
const cache = join(shipped, "dist", "planner.cache");

/** Null where there is no such file. */
function read(path, encoding) {
  try {
    return readFileSync(path, encoding);
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

/**
 * True when the planner had the command. The engine refuses a compiled form of another version of
 * it, or of another script, without a word; then the script is compiled as ever.
 */
async function runPlanner() {
  const source = read(script, "latin1");
  if (source === null) return false;
  const compiled = new vm.Script(source, {
    filename: script,
    cachedData: read(cache) ?? undefined,
  });
  if (process.env.PEERLANE_WRITE_CACHE === "1") {
    process.once("exit", () => writeFileSync(cache, compiled.createCachedData()));
  }
  const module = { exports: {} };
  compiled.runInThisContext()(module.exports, createRequire(script), module);
  return module.exports.runPlanner(shipped);
}

async function main() {
  if (await runPlanner()) return;
  if (read(bundle) !== null) {
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
