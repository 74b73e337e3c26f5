/** NVMe over Fabrics on the wire: commands, capsules, discovery, names, RDMA private data. */

export * from "./auth.ts";
export * from "./commands.ts";
export * from "./connect-data.ts";
export * from "./discovery.ts";
export * from "./identify.ts";
export * from "./nqn.ts";
export * from "./rdma-private.ts";
export * from "./sgl.ts";
export * from "./status.ts";
export * from "./tcp.ts";
export * from "./transport.ts";
