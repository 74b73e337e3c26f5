/**
 * One capture file while it is recorded: when packets reach it, when it ends, what an error does.
 *
 * Invariants: `add` never throws and never lets the file grow beyond its limit; the file is closed
 * once, and until an error it ends with the block that says why.
 */

import { formatBytes, PeerlaneError } from "../../core/index.ts";
import type { CancelTimer, Clock, RecordFile, RecordFiles } from "../../platform/index.ts";
import { PcapngWriter } from "../../trace/index.ts";

/** Named as in a target's configuration (target/schema.ts). */
export interface CaptureSettings {
  readonly path: string;
  /** Bytes of the file at which it stops. */
  readonly max_bytes: number;
  /** A regular file that is there is replaced. */
  readonly overwrite: boolean;
}

export interface RecordingParts {
  readonly files: RecordFiles;
  readonly clock: Clock;
}

export const CAPTURE_BYTES_DEFAULT = 2 ** 30;
export const CAPTURE_BYTES_MIN = 2 ** 16;
/** Packets are in the file so soon after they are there, in microseconds. */
const FLUSH_US = 100_000;
/** Room for the last block. */
const END_BYTES = 2048;

/** One file while it is recorded. */
export class Recording {
  readonly writer: PcapngWriter;
  readonly settings: CaptureSettings;
  /** Connections that were recorded. */
  connections = 0;
  isOn = true;
  private readonly file: RecordFile;
  private readonly clock: Clock;
  private readonly onStop: (recording: Recording, reason: string, isUnasked: boolean) => void;
  private cancelFlush: CancelTimer | null = null;

  /** Throws `file-exists`, `record-file`. */
  constructor(
    settings: CaptureSettings,
    { files, clock }: RecordingParts,
    onStop: (recording: Recording, reason: string, isUnasked: boolean) => void,
  ) {
    this.settings = settings;
    this.clock = clock;
    this.onStop = onStop;
    this.file = files.create(settings.path, settings.overwrite);
    this.writer = new PcapngWriter({
      out: (bytes) => this.file.append(bytes),
      nowNs: clock.nowNs(),
      wallMs: clock.wallMs(),
      application: "Peerlane",
      interfaceName: "nvme-tcp",
      interfaceDescription:
        "streams as the program saw them, decrypted where TLS was used; TCP/IP headers are made up",
    });
    try {
      this.writer.flush();
    } catch (error) {
      this.file.close();
      throw error;
    }
  }

  /** Records something of up to `bytes` bytes, at this moment. Never throws. */
  add(bytes: number, make: (timeNs: number) => void): void {
    if (!this.isOn) return;
    const { max_bytes: limit } = this.settings;
    if (this.writer.size + bytes + END_BYTES > limit) {
      this.stop(`its limit of ${formatBytes(limit)} is reached`, true);
      return;
    }
    this.write(() => make(this.clock.nowNs()));
    if (!this.isOn || this.cancelFlush !== null) return;
    this.cancelFlush = this.clock.after(FLUSH_US, () => {
      this.cancelFlush = null;
      this.write(() => this.writer.flush());
    });
  }

  /** Writes what is there, and closes the file. */
  stop(reason: string, isUnasked: boolean): void {
    if (!this.isOn) return;
    this.write(() => this.writer.finish(this.clock.nowNs(), reason));
    this.end(reason, isUnasked);
  }

  private write(what: () => void): void {
    if (!this.isOn) return;
    try {
      what();
    } catch (error) {
      if (!(error instanceof PeerlaneError)) throw error;
      this.end(error.message, true);
    }
  }

  private end(reason: string, isUnasked: boolean): void {
    if (!this.isOn) return;
    this.isOn = false;
    this.cancelFlush?.();
    this.file.close();
    this.onStop(this, reason, isUnasked);
  }
}
