/**
 * The only door to the outside world: time, files, sockets, this process. Each part is an interface
 * first, with the real one and one for tests, so that everything above takes it as a parameter.
 */
export {
  bunzip2,
  gunzip,
  type Packing,
  packingOf,
  type Tar,
  type TarEntry,
  untar,
  unxz,
  unzstd,
} from "./archive.ts";
export { BlockFile, type BlockFileOptions, FileStatus, openBlockFile } from "./block-file.ts";
export { type CancelTimer, type Clock, ManualClock, realClock } from "./clock.ts";
export {
  crc32,
  DhExchange,
  type DhGroupName,
  dhBytes,
  fromBase64,
  HASH_BYTES,
  type HashName,
  hash,
  hkdf,
  hmac,
  type Random,
  realRandom,
  sameSecret,
  toBase64,
} from "./crypto.ts";
export { type Digest, sha256 } from "./digest.ts";
export {
  type DirectoryEntry,
  type EntryKind,
  type Files,
  realFiles,
  realFilesInto,
  textFrom,
} from "./files.ts";
export { type HttpAnswer, listenHttp } from "./http.ts";
export { type LocalListener, type LocalSockets, realLocalSockets } from "./local-sockets.ts";
export { MemoryFiles } from "./memory-files.ts";
export { MemoryNetwork, type MemoryNetworkOptions } from "./memory-network.ts";
export { PollLoop, type PollLoopOptions } from "./poll-loop.ts";
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
export { type RecordFile, type RecordFiles, realRecordFiles } from "./record-file.ts";
export { checkSecretFile, readSecretFile } from "./secret-file.ts";
export {
  type ByteStream,
  CLOSED_BY_PEER,
  formatAddress,
  type Network,
  realNetwork,
  type StreamAddress,
  type StreamEvents,
  type StreamListener,
  tryParseAddress,
} from "./sockets.ts";
export { StateFile } from "./state-file.ts";
export type { TlsClient, TlsServer } from "./tls.ts";
