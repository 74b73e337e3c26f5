/** Memory: the contract of the descriptions of I/O memory, and the descriptions. */

export * from "./contract.ts";
