#!/usr/bin/env node
/**
 * The installed command. It runs the bundle that `npm ci` (or `npm run build`) leaves in dist/, so
 * that no TypeScript loader runs at start. When there is no bundle, it says what makes one.
 */
import { existsSync } from "node:fs";

const bundle = new URL("../dist/peerlane.mjs", import.meta.url);
if (existsSync(bundle)) {
  await import(bundle.href);
} else {
  process.stderr.write(
    "peerlane: dist/peerlane.mjs is missing: the command line is not built yet.\n" +
      "          Run `npm ci` (installs and builds), or `npm run build` when it is installed.\n",
  );
  process.exitCode = 1;
}
