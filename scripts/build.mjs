/**
 * Bundles the command line into dist/. Runs from `npm ci` (prepare) and `npm run build`.
 *
 * - dist/peerlane.mjs: every command, each a piece of its own in dist/chunks, loaded when asked
 *   for. Packages stay outside: they are installed beside it, and native ones cannot be bundled.
 * - dist/planner.script.js: the planner's commands alone, as one script with the small packages
 *   inside, and dist/planner.cache: the engine's compiled form of it, made by running it once.
 *   bin/peerlane.cjs runs it first. Node starts in a tenth of a second; this is what keeps
 *   `explain` near that.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const entry = `${root}src/cli/main.ts`;
const outfile = `${root}dist/peerlane.mjs`;
const COMMON = { bundle: true, platform: "node", target: "node20.19", logLevel: "warning" };

/** Without esbuild (an install with --omit=dev) a bundle that is there already is good enough. */
async function loadEsbuild() {
  try {
    return await import("esbuild");
  } catch (cause) {
    if (existsSync(outfile)) return undefined;
    throw new Error("build: esbuild is not installed; run `npm ci` without --omit=dev", { cause });
  }
}

async function buildAll(esbuild) {
  const { metafile } = await esbuild.build({
    ...COMMON,
    entryPoints: [{ in: entry, out: "peerlane" }],
    outdir: `${root}dist`,
    outExtension: { ".js": ".mjs" },
    chunkNames: "chunks/[name]-[hash]",
    splitting: true,
    metafile: true,
    packages: "external",
    format: "esm",
    sourcemap: true,
    sourcesContent: false,
  });
  const outputs = Object.entries(metafile.outputs);
  await removeOldChunks(new Set(outputs.map(([path]) => basename(path))));
  const code = outputs.filter(([path]) => path.endsWith(".mjs"));
  const bytes = code.reduce((sum, [, output]) => sum + output.bytes, 0);
  console.log(`build: dist/peerlane.mjs, ${Math.ceil(bytes / 1024)} KiB in ${code.length} pieces`);
}

/** Pieces of earlier builds; after the new ones are there: a running command finds its own. */
async function removeOldChunks(kept) {
  const folder = `${root}dist/chunks`;
  if (!existsSync(folder)) return;
  for (const name of await readdir(folder)) {
    if (!kept.has(name)) await rm(`${folder}/${name}`, { force: true });
  }
}

/**
 * The planner asks the fabric for routes and puts no device model behind a BAR: through its door it
 * gets what is not below devices/. Were one needed, the build would fail with its name.
 */
const withoutDeviceModels = {
  name: "without-device-models",
  setup(build) {
    build.onLoad({ filter: /src\/fabric\/index\.ts$/ }, async ({ path }) => {
      const lines = (await readFile(path, "utf8")).split("\n");
      const contents = lines.filter((line) => !line.includes('"./devices/')).join("\n");
      return { contents, loader: "ts", resolveDir: dirname(path) };
    });
  },
};

/**
 * Commander can start other programs, of which there is none here; its door to them takes longer to
 * open than a dump to read.
 */
const withoutPrograms = {
  name: "without-programs",
  setup(build) {
    build.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes("/commander/") ? { path: "nothing", namespace: "empty" } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: "empty" }, () => ({
      contents: "module.exports = {};",
    }));
  },
};

/** The engine has it at hand; the module of the same is a copy of it, one property after another. */
const withoutProcessModule = {
  name: "without-process-module",
  setup(build) {
    build.onResolve({ filter: /^node:process$/ }, () => ({ path: "process", namespace: "global" }));
    build.onLoad({ filter: /.*/, namespace: "global" }, () => ({
      contents: "export default process; export const { getBuiltinModule } = process;",
    }));
  },
};

/** Loaded by name when a file needs them; most do not. */
const LATE_PACKAGES = ["fast-xml-parser", "tar-stream", "zod"];

/**
 * In pieces first, as modules: a piece is what the same commands need, so that a command begins with
 * its own, not with whatever stands behind the door of a room. Then one script of the pieces.
 */
async function buildPlanner(esbuild) {
  const script = `${root}dist/planner.script.js`;
  const cache = `${root}dist/planner.cache`;
  const pieces = `${root}dist/pieces`;
  await rm(cache, { force: true });
  await esbuild.build({
    ...COMMON,
    entryPoints: [`${root}src/cli/planner-main.ts`],
    outdir: pieces,
    external: LATE_PACKAGES,
    plugins: [withoutDeviceModels, withoutPrograms, withoutProcessModule],
    splitting: true,
    format: "esm",
    sourcemap: "inline",
    sourcesContent: false,
  });
  const { metafile } = await esbuild.build({
    ...COMMON,
    // Pieces that are needed for nothing but their effects have none (package.json).
    logOverride: { "ignored-bare-import": "silent" },
    entryPoints: [`${pieces}/planner-main.js`],
    outfile: script,
    metafile: true,
    external: LATE_PACKAGES,
    format: "cjs",
    // The function that bin/peerlane.cjs calls: nothing is left to be joined at start.
    banner: { js: "(function (exports, require, module) {" },
    footer: { js: "})" },
    // A script that comes from a cache cannot import; what is loaded late is required.
    supported: { "dynamic-import": false },
    // Half the text to read. The map is for whoever gets the stack of an internal error.
    minify: true,
    sourcemap: "external",
    sourcesContent: false,
  });
  await rm(pieces, { recursive: true });
  const [, { bytes }] = Object.entries(metafile.outputs).find(([path]) => path.endsWith(".js"));
  warmUp();
  const compiled = existsSync(cache) ? "compiled" : "not compiled";
  console.log(`build: dist/planner.script.js, ${Math.ceil(bytes / 1024)} KiB, ${compiled}`);
}

/** A run that compiles what `explain` needs, and writes it down (bin/peerlane.cjs). */
function warmUp() {
  const machine = `${root}scenarios/machines/hgx-h100-gpud.vvv.txt`;
  if (!existsSync(machine)) return;
  const args = ["explain", "1a:00.0", "3b:00.0", "-m", machine, "--kernel", "5.15"];
  const env = { ...process.env, PEERLANE_WRITE_CACHE: "1" };
  const { stderr } = spawnSync(process.execPath, [`${root}bin/peerlane.cjs`, ...args], { env });
  if (stderr.includes("internal error")) throw new Error(`build: ${stderr}`);
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
    await buildAll(esbuild);
    await buildPlanner(esbuild);
  }
}
