/** The description with opaque frame numbers: the type, what it converts to, the memory. */

export * from "./frame.ts";
export * from "./pfn-memory.hot.ts";
