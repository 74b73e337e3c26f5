/** Machine: a real machine as data, and what reads one. */

export { IDENTITY_APERTURE } from "./apertures.ts";
export type { ImportOptions, MachinePart } from "./assemble.ts";
export { assembleMachine } from "./assemble.ts";
export { barSizeBound } from "./bar-bounds.ts";
export { blankFunction, UNKNOWN_ID } from "./blank.ts";
export { type CaptureOptions, captureMachine } from "./capture.ts";
export { classNameOf, type DeviceKind, deviceKind } from "./classes.ts";
export { factsFromConfig } from "./config-facts.ts";
export {
  addAcs,
  addBar,
  editFunction,
  freeSlots,
  moveFunction,
  type NewBar,
  setAcsControl,
  setCommand,
  setEgressVector,
  setHost,
  setIds,
} from "./edit.ts";
export type { HostFacts } from "./host-facts.ts";
export {
  IMPORTERS,
  type Importer,
  type InputFile,
  importFile,
  importMachine,
  parseLspci,
} from "./importers/registry.ts";
export { parseMachineJson } from "./machine-json-sync.ts";
export { serializeMachine } from "./machine-json-write.ts";
export {
  compareWithNvsmi,
  isNvsmiTopo,
  type NvsmiComparison,
  type NvsmiDisagreement,
  type NvsmiLabel,
  type NvsmiTopo,
  parseNvsmiTopo,
} from "./nvsmi.ts";
export { importInputs, readMachine } from "./read-machine.ts";
export {
  type MovedBar,
  type MovedWindow,
  type ReassignReport,
  reassignWindows,
} from "./reassign.ts";
export * from "./snapshot.ts";
export { synthesizeConfig } from "./synthesize.ts";
export { MachineIndex, NONE, PATH_MAX } from "./tree.ts";
export { virtualFunctionBdf } from "./virtual-functions.ts";
