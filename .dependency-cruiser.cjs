/**
 * The layer rule of docs/ARCHITECTURE.md, as data. A room may import rooms of lower layers, through
 * their index.ts (or backing/interface.ts). Rooms that share a layer do not import each other,
 * except where `BESIDE` says so. Type-only imports count: a type is a dependency too.
 */

/** Lowest first. A name is a folder of src/, `spec/x` and `backing/x` are rooms of their own. */
const LAYERS = [
  ["core"],
  ["spec/pcie", "spec/nvme", "spec/nvmf", "spec/rdma", "spec/gpu"],
  ["platform", "trace"],
  ["machine"],
  ["dma", "backing/interface.ts"],
  ["p2p"],
  ["memory"],
  ["block"],
  ["nvme", "rdma", "gpu"],
  ["nvmet"],
  ["fabric"],
  ["backing/fabric", "backing/vfio-user", "backing/vfio"],
  ["planner"],
  ["scenario"],
  ["server"],
  ["cli"],
];

/** Rooms that may see less than everything below them. */
const ONLY = {
  // A device model and the driver of the same device share only the specification.
  // It implements the door to hardware, and a namespace may lie on a file (docs/adr/0002).
  fabric: [
    "core",
    "spec/pcie",
    "spec/nvme",
    "spec/rdma",
    "spec/gpu",
    "platform",
    "trace",
    "machine",
    "backing/interface.ts",
  ],
};

/** Rooms of one layer that may see each other (no-circular still holds between them). */
const BESIDE = { dma: ["backing/interface.ts"], "backing/interface.ts": ["dma"] };

/** Rooms that may use packages from npm; the rest of the stack has no run-time dependency. */
const MAY_USE_PACKAGES = ["platform", "machine", "scenario", "server", "cli"];

const TEST_FILE = "\\.test\\.ts$";
const quote = (name) => name.replace(/[./]/g, "\\$&");
/** Matches the room's files, and only those: `src/core/...`, or the one file `interface.ts`. */
const pathOf = (room) => `^src/${quote(room)}${room.endsWith(".ts") ? "$" : "/"}`;

const rooms = LAYERS.flat();
const layerRules = LAYERS.flatMap((layer, index) =>
  layer.map((room) => {
    const below = ONLY[room] ?? LAYERS.slice(0, index).flat();
    const allowed = [room, ...below, ...(BESIDE[room] ?? [])];
    return {
      name: `layer-${room.replace(/\.ts$/, "").replace("/", "-")}`,
      comment:
        `src/${room} may import: ${allowed.join(", ")}. Move the code down to the room that owns it, ` +
        "or let the caller pass in what is needed.",
      severity: "error",
      from: { path: pathOf(room), pathNot: TEST_FILE },
      to: { path: "^src/", pathNot: allowed.map(pathOf) },
    };
  }),
);

/** Room of a file, captured: `spec/x`, `backing/x` or the first folder. */
const ROOM = "^src/((?:spec|backing)/[^/]+|[^/]+)/";
const DOORS = [
  "^src/[^/]+/index\\.ts$",
  "^src/(?:spec|backing)/[^/]+/index\\.ts$",
  "^src/backing/interface\\.ts$",
];

module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: "known-room",
      comment:
        "This file is in no room of LAYERS (.dependency-cruiser.cjs). Put it in a room, or add the room " +
        "there and to docs/ARCHITECTURE.md, at the layer it belongs to.",
      severity: "error",
      from: { path: "^src/", pathNot: rooms.map(pathOf) },
      to: {},
    },
    {
      name: "through-the-door",
      comment:
        "Import another room through its index.ts (or backing/interface.ts). If what you need is not " +
        "exported there, export it, or ask whether it should be public at all.",
      severity: "error",
      from: { path: ROOM },
      to: { path: "^src/", pathNot: [...DOORS, "^src/$1/"] },
    },
    {
      name: "through-the-door-tests",
      comment: "Code outside src/ imports a room through its index.ts (or backing/interface.ts).",
      severity: "error",
      from: { path: "^(testing|test|bench)/" },
      to: { path: "^src/", pathNot: DOORS },
    },
    {
      name: "no-testing-in-production",
      comment:
        "src/ never imports testing/, test/, bench/ or a *.test.ts: move what is shared into src/.",
      severity: "error",
      from: { path: "^src/", pathNot: TEST_FILE },
      to: { path: ["^(testing|test|bench|scripts)/", TEST_FILE] },
    },
    {
      name: "only-platform-touches-node",
      comment:
        "Only src/platform imports node:*. Take an interface of src/platform as a parameter instead.",
      severity: "error",
      from: { path: "^src/", pathNot: ["^src/platform/", TEST_FILE] },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "only-ffi-touches-ffi",
      comment: "Only src/platform/ffi imports koffi. Use its interface.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/platform/ffi" },
      to: { path: "node_modules/koffi" },
    },
    {
      name: "stack-has-no-packages",
      comment: `Only ${MAY_USE_PACKAGES.join(", ")} use packages from npm; the stack below has none.`,
      severity: "error",
      from: { path: "^src/", pathNot: [...MAY_USE_PACKAGES.map(pathOf), TEST_FILE] },
      to: { path: "node_modules" },
    },
    {
      name: "no-circular",
      comment: "A cycle: move the shared part to a file (or a lower room) that both import.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "not-to-unresolvable",
      comment:
        "This import resolves to nothing: wrong path, missing .ts, or a package not installed.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: "not-to-dev-dependency",
      comment: "Production code imports a devDependency: move it to dependencies in package.json.",
      severity: "error",
      from: { path: "^src/", pathNot: TEST_FILE },
      to: { dependencyTypes: ["npm-dev"] },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
