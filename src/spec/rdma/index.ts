/** RDMA as specified: verbs constants, wire headers, CM messages, and the model RNIC's interface. */

export * from "./qp-state.ts";
export * from "./work-request.ts";
