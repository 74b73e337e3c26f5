/** The configuration of a target that serves: schema, readers, writer. */

export { type Backend, chooseSsd } from "./backends.ts";
export { CONTROL_METHODS, type ControlMethod, type RpcAnswer } from "./control.ts";
export { callTarget, parseParameters } from "./control-client.ts";
export { formatTargetConfig, plainTargetConfig } from "./format.ts";
export { type LoadedConfig, parseTargetConfig } from "./load.ts";
export {
  captureOf,
  type ExtraOptions,
  parseListen,
  parseNamespace,
  type SimpleNamespace,
  type SimpleOptions,
  simpleConfig,
  withOptions,
} from "./options.ts";
export { targetConfigDoc } from "./reference.ts";
export * from "./schema.ts";
export { hasSecrets } from "./security.ts";
export { type ServedNamespace, ServedPort, ServedSubsystem } from "./served.ts";
export { type ServiceOptions, TargetService } from "./service.ts";
