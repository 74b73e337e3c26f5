/**
 * RDMA as specified: verbs constants, wire headers, CM messages, and the model RNIC's interface.
 */

export * from "./cm.ts";
export * from "./gid.ts";
export * from "./qp-state.ts";
export * from "./rnic.ts";
export * from "./transport.ts";
export * from "./work-request.ts";
