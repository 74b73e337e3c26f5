#!/usr/bin/env node
/**
 * The installed command. It runs what `npm ci` (or `npm run build`) leaves in dist/, so that no
 * TypeScript loader runs at start: the planner's commands as one script with its compiled form
 * beside it, everything else as modules. When there is no bundle, it says what makes one.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import vm from "node:vm";

const bundle = new URL("../dist/peerlane.mjs", import.meta.url);
const shipped = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** True when the planner had the command. A compiled form of another Node is not used. */
async function runPlanner() {
  const path = fileURLToPath(new URL("../dist/planner.cjs", import.meta.url));
  const cache = path.replace(/cjs$/, "cache");
  if (!existsSync(path)) return false;
  const source = `(function (exports, require, module) {${readFileSync(path, "latin1")}\n})`;
  const script = new vm.Script(source, {
    filename: path,
    cachedData: existsSync(cache) ? readFileSync(cache) : undefined,
  });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(path), module);
  const isDone = await module.exports.runPlanner(shipped);
  if (process.env.PEERLANE_WRITE_CACHE === "1") writeFileSync(cache, script.createCachedData());
  return isDone;
}

if (!(await runPlanner())) {
  if (existsSync(bundle)) {
    await import(bundle.href);
  } else {
    process.stderr.write(
      "peerlane: dist/peerlane.mjs is missing: the command line is not built yet.\n" +
        "          Run `npm ci` (installs and builds), or `npm run build` when it is installed.\n",
    );
    process.exitCode = 1;
  }
}
