/** Machine: a real machine as data, and what reads one. */

export * from "./snapshot.ts";
