/** RDMA: verbs, the driver of the model RNIC, rw contexts, the connection manager. */

export { type AttachOptions, RdmaDevice } from "./attach.ts";
export {
  type AcceptOptions,
  CmPrivateBytes,
  type Connection,
  type ConnectionManager,
  type ConnectionRequest,
  type ConnectOptions,
  type Listener,
} from "./cm-types.ts";
export * from "./rw.hot.ts";
export * from "./verbs.ts";
