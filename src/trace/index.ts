/** Trace: the closed event list, the tracer, exporters. */

export * from "./events.ts";
export * from "./pcapng.ts";
export * from "./prometheus.ts";
export * from "./tcp-conversation.ts";
export * from "./tracer.ts";
