/** The description with physical vectors: the map of addresses, its index, the memory. */

export * from "./phys-map.ts";
export * from "./phys-memory.hot.ts";
export * from "./range-index.hot.ts";
