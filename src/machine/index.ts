/** Machine: a real machine as data, and what reads one. */

export * from "./snapshot.ts";
export { MachineIndex, NONE, PATH_MAX } from "./tree.ts";
