/** Memory: the contract of the descriptions of I/O memory, and the descriptions. */

export * from "./contract.ts";
export * from "./dma-address/dma-address-memory.hot.ts";
export * from "./dma-buf/index.ts";
export * from "./host/index.ts";
export * from "./lease/lease-memory.hot.ts";
export * from "./page/index.ts";
export { PEER_KIND_NAMES, PeerKind, PeerRoutes } from "./peer/peer-routes.hot.ts";
export * from "./pfn/index.ts";
export * from "./phys/index.ts";
