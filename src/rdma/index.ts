/** RDMA: verbs, the driver of the model RNIC, rw contexts, the connection manager. */

export * from "./cm-types.ts";
export * from "./verbs.ts";
