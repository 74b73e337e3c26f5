/** NVMe over Fabrics: the target, its orchestrator, transports, and the host. */

export * from "./admin/identify.ts";
export * from "./assembly.ts";
export * from "./binding.hot.ts";
export * from "./channel.ts";
export * from "./controller.ts";
export * from "./counters.ts";
export * from "./host/admin.ts";
export * from "./host/host.ts";
export * from "./host/queue.hot.ts";
export * from "./host/transport.ts";
export * from "./namespace.ts";
export * from "./orchestrator.ts";
export * from "./p2p-config.ts";
export * from "./port.ts";
export * from "./queue.hot.ts";
export * from "./request.hot.ts";
export * from "./status.ts";
export * from "./subsystem.ts";
export * from "./target.ts";
export * from "./transports/loop/loop.hot.ts";
export * from "./transports/loop/loop.ts";
export * from "./transports/rdma/host-channel.hot.ts";
export * from "./transports/rdma/host-transport.ts";
export * from "./transports/rdma/target-channel.hot.ts";
export * from "./transports/rdma/target-transport.ts";
