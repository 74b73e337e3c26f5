/**
 * Bundles src/cli/main.ts into dist/peerlane.mjs. Runs from `npm ci` (prepare) and `npm run build`.
 * Packages stay outside the bundle: they are installed beside it, and native ones cannot be bundled.
 */
import { existsSync } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const entry = `${root}src/cli/main.ts`;
const outfile = `${root}dist/peerlane.mjs`;

/** Without esbuild (an install with --omit=dev) a bundle that is there already is good enough. */
async function loadEsbuild() {
  try {
    return await import("esbuild");
  } catch (cause) {
    if (existsSync(outfile)) return undefined;
    throw new Error("build: esbuild is not installed; run `npm ci` without --omit=dev", { cause });
  }
}

if (!existsSync(entry)) {
  // Never leave a stale bundle: it would run code that is no longer in the tree.
  await rm(outfile, { force: true });
  console.warn("build: WARNING: src/cli/main.ts does not exist; nothing was built, and");
  console.warn("build: WARNING: the `peerlane` command and `npm start` will not run.");
} else {
  const esbuild = await loadEsbuild();
  if (esbuild === undefined) {
    console.warn("build: esbuild is not installed; keeping the existing dist/peerlane.mjs");
  } else {
    await esbuild.build({
      entryPoints: [entry],
      outfile,
      bundle: true,
      packages: "external",
      platform: "node",
      format: "esm",
      target: "node20.19",
      sourcemap: true,
      sourcesContent: false,
      logLevel: "warning",
    });
    const { size } = await stat(outfile);
    console.log(`build: dist/peerlane.mjs, ${Math.ceil(size / 1024)} KiB`);
  }
}
