/** PCI Express as the specification has it: configuration space, capabilities, link throughput. */

export * from "./acs.ts";
export * from "./bars.ts";
export * from "./capability.ts";
export * from "./config-bytes.ts";
export * from "./express.ts";
export * from "./extended.ts";
export * from "./header.ts";
export * from "./interrupts.ts";
export * from "./sriov.ts";
export * from "./throughput.ts";
export * from "./windows.ts";
