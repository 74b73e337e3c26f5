/** The configuration of a target that serves: schema, readers, writer. */

export { type Backend, chooseSsd } from "./backends.ts";
export { formatTargetConfig, plainTargetConfig } from "./format.ts";
export { type LoadedConfig, parseTargetConfig } from "./load.ts";
export {
  parseListen,
  parseNamespace,
  type SimpleNamespace,
  type SimpleOptions,
  simpleConfig,
} from "./options.ts";
export { targetConfigDoc } from "./reference.ts";
export * from "./schema.ts";
export { hasSecrets } from "./security.ts";
