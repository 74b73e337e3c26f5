/** Fabric: the simulated machine. */

export * from "./device.ts";
