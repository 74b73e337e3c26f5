/** Core: what every other room stands on. It imports nothing. */

export * from "./addr.ts";
export * from "./assert.ts";
export * from "./bdf.ts";
export * from "./bits.ts";
export * from "./copy.hot.ts";
export * from "./crc32c.hot.ts";
export * from "./errors.ts";
export * from "./extents.hot.ts";
export * from "./layout.ts";
export * from "./limits.ts";
export * from "./namespace-store.ts";
export * from "./prng.ts";
export * from "./range-allocator.hot.ts";
export * from "./reactor.ts";
export * from "./registers.ts";
export * from "./sparse-memory.hot.ts";
export * from "./status.ts";
export * from "./text.ts";
export * from "./tree.ts";
export * from "./units.ts";
export * from "./wire.ts";
