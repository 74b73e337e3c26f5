/** PCI Express as the specification has it: configuration space, capabilities, link throughput. */

export * from "./throughput.ts";
