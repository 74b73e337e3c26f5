/** NVMe controller model: what the fabric and scenarios make one from. */

export type { NvmeFaultRule } from "./faults.ts";
export { FileStore, type StoreFile } from "./file-store.hot.ts";
export { NvmeModel } from "./model.ts";
export {
  LBA_FORMATS,
  type LbaFormat,
  type NamespaceFormat,
  type NamespaceIdentity,
} from "./namespace.ts";
export type {
  NvmeCmbOptions,
  NvmeModelOptions,
  NvmeNamespaceOptions,
  NvmePmrOptions,
} from "./options.ts";
export { MemoryStore } from "./store.hot.ts";
