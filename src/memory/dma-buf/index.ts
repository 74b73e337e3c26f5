/** dma-buf: memory of one driver lent to others, with the right to move it and to take it back. */

export * from "./attachment.ts";
export * from "./dma-buf.ts";
export * from "./dma-buf-memory.hot.ts";
export * from "./import.ts";
