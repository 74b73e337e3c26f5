/**
 * Records what goes over a network's streams as a pcapng file, which Wireshark reads: a layer
 * around `Network`, so that nobody above or below it knows. While it is off, streams are handed
 * through as they are, and cost nothing.
 *
 * - What is recorded is what the program sees. With TLS that is the decrypted stream: a capture has
 *   users' data in it, and never a key of TLS. Its file is its owner's alone.
 * - Every connection is recorded from its beginning, or not at all: a dissector needs the beginning
 *   to know the rest. Those that are up when it starts are not recorded.
 * - Synchronous, through one buffer of 256 KiB that is written at least ten times a second: a slow
 *   disk slows the target and its hosts, and no packet is missing.
 * - It stops at its limit of bytes, and when the file cannot be written; connections go on.
 *
 * Leaves out: TCP as it was on the wire (see trace/tcp-conversation.ts); connections that were
 * refused before they were a stream (TLS that failed); rings of files; named pipes.
 */

import { type Inspectable, PeerlaneError, type Tree } from "../../core/index.ts";
import type { Network } from "../../platform/index.ts";
import { RecordedNetwork } from "./recorded-network.ts";
import { type CaptureSettings, Recording, type RecordingParts } from "./recording.ts";

export interface CaptureEvent {
  readonly what: "capture-started" | "capture-stopped";
  readonly path: string;
  /** Empty for a start; why it stopped. */
  readonly reason: string;
  /** It stopped by itself. */
  readonly isUnasked: boolean;
  readonly packets: number;
  readonly bytes: number;
}

export interface CaptureOptions extends RecordingParts {
  readonly onEvent?: (event: CaptureEvent) => void;
}

export class Capture implements Inspectable {
  private readonly options: CaptureOptions;
  private recording: Recording | null = null;
  private lastReason = "";

  constructor(options: CaptureOptions) {
    this.options = options;
  }

  /** The recording that new connections are part of; null: none. */
  get current(): Recording | null {
    return this.recording?.isOn === true ? this.recording : null;
  }

  /** Throws `capture-running`, `file-exists`, `record-file`. */
  start(settings: CaptureSettings): void {
    const { current } = this;
    if (current !== null) {
      throw new PeerlaneError("capture-running", "a capture is running already", {
        place: current.settings.path,
        remedy: "stop it first: peerlane targetctl capture stop",
      });
    }
    const recording = new Recording(settings, this.options, (ended, reason, isUnasked) => {
      this.lastReason = reason;
      this.tell(ended, "capture-stopped", reason, isUnasked);
    });
    this.recording = recording;
    if (recording.isOn) this.tell(recording, "capture-started", "", false);
  }

  /** Throws `no-capture` when none is running. */
  stop(reason: string): void {
    const { current } = this;
    if (current === null) {
      throw new PeerlaneError("no-capture", "no capture is running", {
        remedy: "start one: peerlane targetctl capture start path=FILE",
      });
    }
    current.stop(reason, false);
  }

  /** Stops it if it is running. */
  close(): void {
    this.current?.stop("the program ended", false);
  }

  /** The network whose connections are recorded. */
  around(network: Network): Network {
    return new RecordedNetwork(network, () => this.current);
  }

  private tell(
    { settings, writer }: Recording,
    what: CaptureEvent["what"],
    reason: string,
    isUnasked: boolean,
  ): void {
    const { path } = settings;
    const { packets, size: bytes } = writer;
    this.options.onEvent?.({ what, path, reason, isUnasked, packets, bytes });
  }

  inspect(): Tree {
    const { recording } = this;
    if (recording === null) return { running: false };
    const { settings, writer, connections, isOn } = recording;
    return {
      running: isOn,
      path: settings.path,
      maxBytes: settings.max_bytes,
      bytes: writer.size,
      packets: writer.packets,
      connections,
      ...(isOn ? {} : { stopped: this.lastReason }),
    };
  }
}
