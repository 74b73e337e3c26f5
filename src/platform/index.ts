/**
 * The only door to the outside world: time, files, this process. Each part is an interface first,
 * with the real one and one for tests, so that everything above takes it as a parameter.
 */
export { type CancelTimer, type Clock, ManualClock, realClock } from "./clock.ts";
export { type Digest, sha256 } from "./digest.ts";
export { type DirectoryEntry, type EntryKind, type Files, realFiles } from "./files.ts";
export {
  type CpuTime,
  DEFAULT_COLUMNS,
  type Host,
  MemoryHost,
  type MemoryHostOptions,
  MemoryOutput,
  type Output,
  realHost,
} from "./process.ts";
