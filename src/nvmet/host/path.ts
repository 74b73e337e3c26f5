/**
 * One path to a subsystem that stays: a controller, and after it is lost another one, until the
 * controller loss timeout is over. Finds the loss (the connection ends, no answer to Keep Alive, an
 * I/O that even Abort does not end), and keeps the ANA states that I/O is directed by.
 *
 *     waiting -> connecting -> live -(lost)-> waiting ... -> gone
 *
 * A Connect that is refused for good (Do Not Retry: this host may not, no such subsystem) makes the
 * path gone at once.
 *
 * Invariants: at most one attempt or controller at a time serves I/O; one that was given up is
 * polled until the last of its commands has come back, so none is lost with it.
 *
 * Leaves out: finding paths (discovery), re-registering memory (a transport's registrations outlive
 * its connections).
 */

import {
  type Inspectable,
  NS_PER_MS,
  PeerlaneError,
  type Poller,
  type Tree,
  viewOf,
} from "../../core/index.ts";
import {
  ANA_GROUP,
  ANA_HEADER,
  AnaGroup,
  AnaHeader,
  AnaState,
  EVENT_INFO,
  EVENT_TYPE,
  EventType,
  LogPage,
  NoticeEvent,
  OAES_ANA_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
} from "../../spec/nvme/index.ts";
import { CONNECT_REFUSED } from "./admin.ts";
import { type HostOptions, NvmfHost } from "./host.ts";
import { NEVER_NS, type PathLink, type PathSet } from "./multipath.hot.ts";

export interface PathOptions {
  /** Between two attempts. Default 2000. */
  readonly reconnectDelayMs?: number;
  /** How long to try before the path is gone for good; 0: for ever. Default 600,000. */
  readonly ctrlLossMs?: number;
  /** For one attempt, from the connection to the last I/O queue. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** After this an I/O is aborted, and as long again later the controller is given up. 0: never. */
  readonly ioTimeoutMs?: number;
  /**
   * When a write whose connection was lost may go again: after the target's Keep Alive Timeout must
   * have ended it (needs `keepAliveMs`), at once (a delayed first execution may then overwrite what
   * came later), or never.
   */
  readonly repeatWrites?: "after-keep-alive" | "at-once" | "never";
}

type State = "waiting" | "connecting" | "live" | "gone";

/** What an ANA log is read with first, bytes. */
const ANA_LOG_BYTES = 4096;
const ANA_LOG_BYTES_MAX = 64 * 1024;
const ANA_STATE_MASK = 0x0f;
/** Any command restarts the target's timer in the middle of a period: it may take two. */
const KEEP_ALIVE_PERIODS = 2;

export class HostPath implements Poller, Inspectable {
  readonly link: PathLink;
  readonly name: string;
  state: State = "waiting";
  /** Why the last controller or attempt ended; null: none has. */
  lastError: string | null = null;
  /** What would help, where the target said so by refusing for good. */
  lastRemedy: string | null = null;
  connects = 0;
  losses = 0;
  timeouts = 0;
  private readonly hostOptions: HostOptions;
  private readonly options: Required<PathOptions>;
  private readonly set: PathSet;
  private readonly changed: (path: HostPath) => void;
  private host_: NvmfHost | null = null;
  /** Given up, with commands or promises that have not come back. */
  private readonly leaving = new Set<NvmfHost>();
  private nextAttemptNs = 0;
  private attemptEndsNs = 0;
  /** Since when it is not live. */
  private downSinceNs: number;
  private isReadingAna = false;

  constructor(
    link: PathLink,
    set: PathSet,
    hostOptions: HostOptions,
    options: PathOptions,
    changed: (path: HostPath) => void,
  ) {
    this.link = link;
    this.set = set;
    this.name = hostOptions.transport.name;
    this.hostOptions = hostOptions;
    this.options = {
      reconnectDelayMs: 2000,
      ctrlLossMs: 600_000,
      connectTimeoutMs: 10_000,
      ioTimeoutMs: 30_000,
      repeatWrites: "after-keep-alive",
      ...options,
    };
    this.changed = changed;
    this.downSinceNs = hostOptions.nowNs();
  }

  /** The target rounds the timeout up to its own unit (KAS). */
  private quietAfterNs(unitMs: number): number {
    const { keepAliveMs: asked = 0 } = this.hostOptions;
    const keepAliveMs = unitMs === 0 ? asked : Math.ceil(asked / unitMs) * unitMs;
    const { repeatWrites } = this.options;
    if (repeatWrites === "at-once") return 0;
    if (repeatWrites === "never" || keepAliveMs === 0) return NEVER_NS;
    return KEEP_ALIVE_PERIODS * keepAliveMs * NS_PER_MS;
  }

  /** The controller, while the path is live. */
  get host(): NvmfHost | null {
    return this.state === "live" ? this.host_ : null;
  }

  private get nowNs(): number {
    return this.hostOptions.nowNs();
  }

  poll(): number {
    let done = 0;
    for (const host of this.leaving) {
      done += host.poll();
      if (host.inFlight === 0) this.leaving.delete(host);
    }
    done += this.host_?.poll() ?? 0;
    if (this.state === "live") this.watch();
    else if (this.state === "connecting" && this.nowNs >= this.attemptEndsNs) {
      this.lose("the attempt to connect timed out");
    } else if (this.state === "waiting") this.tryAgain();
    else if (this.state === "gone" && this.nowNs >= this.attemptEndsNs) this.host_?.abandon();
    return done;
  }

  private tryAgain(): void {
    const now = this.nowNs;
    const { ctrlLossMs } = this.options;
    if (ctrlLossMs > 0 && now - this.downSinceNs >= ctrlLossMs * NS_PER_MS) {
      this.state = "gone";
      this.changed(this);
    } else if (now >= this.nextAttemptNs && this.leaving.size === 0) this.attempt();
  }

  private attempt(): void {
    this.state = "connecting";
    this.attemptEndsNs = this.nowNs + this.options.connectTimeoutMs * NS_PER_MS;
    const host = new NvmfHost(this.hostOptions);
    this.host_ = host;
    void this.bringUp(host).then(
      () => this.live(host),
      (error: unknown) => this.failed(host, error),
    );
  }

  /** Connects, and learns what I/O needs to know before the first one goes. */
  private async bringUp(host: NvmfHost): Promise<void> {
    await host.connect();
    host.onEvent = (event) => this.event(host, event);
    await host.enableEvents(OAES_ANA_CHANGE | OAES_NAMESPACE_ATTRIBUTE);
    await this.readAna(host);
  }

  private live(host: NvmfHost): void {
    // Given up meanwhile: it is polled until it is empty, and nobody waits for it.
    if (host !== this.host_) return;
    this.state = "live";
    this.connects++;
    this.link.queues = host.queues;
    this.link.quietAfterNs = this.quietAfterNs(host.info.keepAliveUnitMs);
    this.link.isLive = true;
    this.changed(this);
  }

  private failed(host: NvmfHost, error: unknown): void {
    if (host !== this.host_) return;
    this.lose(errorText(error));
    // The target says that trying again is no use: this host may not connect, there is no such
    // subsystem.
    if (!isRefusal(error)) return;
    this.lastRemedy = error.remedy ?? null;
    this.state = "gone";
    this.attemptEndsNs = this.nowNs;
    this.changed(this);
  }

  /** Looks for signs that the controller is lost. */
  private watch(): void {
    const host = this.host_;
    if (host === null) return;
    const broken = host.queues.find(({ channel }) => channel.ended !== null);
    const why = host.ended ?? broken?.channel.ended ?? null;
    if (why !== null) this.lose(why);
    else if (host.isSilent) this.lose("no answer to Keep Alive");
    else {
      this.checkTimeouts(host);
      if (this.link.needsAna) this.refreshAna(host);
    }
  }

  /** Abort for an I/O that takes too long; the end of the controller when that does not help. */
  private checkTimeouts(host: NvmfHost): void {
    const { ioTimeoutMs } = this.options;
    if (ioTimeoutMs === 0 || this.link.inFlight === 0) return;
    const io = this.set.oldestOn(this.link);
    if (io === null || io.queue === null) return;
    const age = this.nowNs - io.sentNs;
    if (age < ioTimeoutMs * NS_PER_MS) return;
    if (!io.isAborted) {
      io.isAborted = true;
      this.timeouts++;
      host.abortCommand(io.queue.qid, io.queue.cidOf(io.command));
    } else if (age >= 2 * ioTimeoutMs * NS_PER_MS) this.lose("an I/O timed out and did not abort");
  }

  /** The controller, or the attempt for one, is over: its commands come back, then it is tried. */
  private lose(why: string): void {
    const { host_: host, state } = this;
    const now = this.nowNs;
    this.lastError = why;
    this.host_ = null;
    this.link.isLive = false;
    this.link.queues = [];
    if (state === "live") {
      this.losses++;
      this.downSinceNs = now;
    }
    if (state !== "gone") {
      this.state = "waiting";
      this.nextAttemptNs = now + this.options.reconnectDelayMs * NS_PER_MS;
    }
    if (host !== null) this.leave(host);
    if (state === "live") this.changed(this);
  }

  private leave(host: NvmfHost): void {
    // The next round of polling fails what is in flight.
    this.leaving.add(host);
    host.abandon();
  }

  private event(host: NvmfHost, event: number): void {
    if (host !== this.host_ || EVENT_TYPE.get(event) !== EventType.notice) return;
    const info = EVENT_INFO.get(event);
    if (info === NoticeEvent.ana) this.link.needsAna = true;
    else if (info === NoticeEvent.namespaceAttribute) {
      // The notice is held back until the log of changed namespaces was read.
      void host
        .logPage(LogPage.changedNamespaces, ANA_LOG_BYTES)
        .then(() => host.identifyNamespaces())
        .then(() => this.changed(this))
        .catch((error: unknown) => this.failed(host, error));
      this.link.needsAna = true;
    }
  }

  private refreshAna(host: NvmfHost): void {
    if (this.isReadingAna) return;
    this.isReadingAna = true;
    this.link.needsAna = false;
    void this.readAna(host)
      .catch((error: unknown) => this.failed(host, error))
      .finally(() => {
        this.isReadingAna = false;
      });
  }

  /** The ANA log, to the states by NSID. A target without ANA serves all through every path. */
  private async readAna(host: NvmfHost): Promise<void> {
    const { ana } = this.link;
    if (!host.info.hasAna) {
      ana.fill(AnaState.optimized);
      return;
    }
    let log = await host.logPage(LogPage.ana, ANA_LOG_BYTES);
    let states = decodeAnaLog(log, ana.length);
    for (let bytes = 2 * ANA_LOG_BYTES; states === null; bytes *= 2) {
      if (bytes > ANA_LOG_BYTES_MAX) throw badAnaLog(this.name);
      log = await host.logPage(LogPage.ana, bytes);
      states = decodeAnaLog(log, ana.length);
    }
    if (host === this.host_) ana.set(states);
  }

  /** Shuts the controller down and tries no more. */
  async close(): Promise<void> {
    const { host } = this;
    this.state = "gone";
    this.attemptEndsNs = this.nowNs + this.options.connectTimeoutMs * NS_PER_MS;
    await host?.disconnect().catch(() => undefined);
    this.lose("closed");
  }

  /** Commands have not come back from controllers that were given up. */
  get isDraining(): boolean {
    return this.leaving.size > 0;
  }

  inspect(): Tree {
    return {
      name: this.name,
      state: this.state,
      cntlid: this.host?.cntlid ?? null,
      lastError: this.lastError,
      connects: this.connects,
      losses: this.losses,
      timeouts: this.timeouts,
      inFlight: this.link.inFlight,
      sent: this.link.sent,
      failedOver: this.link.failedOver,
      ana: (this.host?.namespaces ?? []).map(({ nsid }) => this.link.stateOf(nsid)),
    };
  }
}

const isRefusal = (error: unknown): error is PeerlaneError =>
  error instanceof PeerlaneError && error.code === CONNECT_REFUSED;

const errorText = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

function badAnaLog(place: string): PeerlaneError {
  return new PeerlaneError("bad-ana-log", "the ANA log of the target is longer than it may be", {
    place,
    remedy: "look at it with: nvme ana-log",
  });
}

/** States by NSID; null: the log is longer than these bytes. */
export function decodeAnaLog(bytes: Uint8Array, nsids: number): Uint8Array | null {
  const view = viewOf(bytes);
  // What no group names is not served through this path.
  const states = new Uint8Array(nsids).fill(AnaState.inaccessible);
  let at = ANA_HEADER.sizeBytes;
  for (let left = AnaHeader.NGRPS.get(view); left > 0; left--) {
    if (at + ANA_GROUP.sizeBytes > bytes.length) return null;
    const count = AnaGroup.NNSV.get(view, at);
    const state = AnaGroup.STATE.get(view, at) & ANA_STATE_MASK;
    at += ANA_GROUP.sizeBytes;
    if (at + 4 * count > bytes.length) return null;
    for (let i = 0; i < count; i++, at += 4) {
      const nsid = view.getUint32(at, true);
      if (nsid < nsids) states[nsid] = state;
    }
  }
  return states;
}
