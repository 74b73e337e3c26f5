/**
 * NVMe as the specifications write it: registers, queue entries, opcodes, statuses, structures.
 * What driver and controller model share, and all they share.
 */

export * from "./commands.ts";
export * from "./dptr.ts";
export * from "./entries.ts";
export * from "./features.ts";
export * from "./identify.ts";
export * from "./layout.ts";
export * from "./logs.ts";
export * from "./opcodes.ts";
export * from "./protection.hot.ts";
export * from "./registers.ts";
export * from "./reservation.ts";
export * from "./status.ts";
