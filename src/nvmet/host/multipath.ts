/**
 * A host that stays connected to one subsystem, over one path or several: what `peerlane connect`
 * and one Peerlane that drives another use. I/O goes by `submit` (multipath.hot.ts), each path
 * looks after its controller (path.ts).
 *
 * Everything is polled. With no path live, I/O waits until one is, or until all are gone for good:
 * then it ends with Host Path Error, as all that comes after.
 */

import { type Inspectable, PeerlaneError, type Poller, type Tree } from "../../core/index.ts";
import type { IoMemory } from "../../memory/index.ts";
import type { HostNamespace, HostOptions, NvmfHost } from "./host.ts";
import { type PathIo, PathLink, PathSet } from "./multipath.hot.ts";
import { HostPath, type PathOptions } from "./path.ts";
import type { HostBuffer, HostTransport } from "./transport.ts";

export interface MultipathOptions extends Omit<HostOptions, "transport">, PathOptions {
  /** One per path; they lead to the same subsystem. */
  readonly transports: readonly HostTransport[];
  /** Told when a path comes, goes, or has other namespaces. */
  readonly onPath?: (path: HostPath) => void;
}

/** Memory that I/O over any path may use. */
export interface PathBuffer {
  readonly buffers: readonly HostBuffer[];
  release(): Promise<void>;
}

export class MultipathHost implements Poller, Inspectable {
  readonly paths: HostPath[];
  readonly set: PathSet;
  private readonly options: MultipathOptions;
  private waiters: { readonly done: () => boolean; readonly resolve: () => void }[] = [];

  constructor(options: MultipathOptions) {
    const { transports, onPath, ...rest } = options;
    this.options = options;
    this.set = new PathSet(options.nowNs);
    this.paths = transports.map((transport, index) => {
      const link = new PathLink(index);
      this.set.links.push(link);
      const changed = (path: HostPath): void => {
        this.set.isOver ||= this.paths.every(({ state }) => state === "gone");
        onPath?.(path);
      };
      return new HostPath(link, this.set, { ...rest, transport }, rest, changed);
    });
  }

  /** Resolves when a path is live. Throws `no-path` when all are gone before. */
  async connect(): Promise<void> {
    await this.until(() => this.live !== null || this.set.isOver);
    if (this.live !== null) return;
    const reasons = this.paths.map(({ name, lastError }) => `${name}: ${lastError}`);
    const remedy = this.paths.find((path) => path.lastRemedy !== null)?.lastRemedy;
    throw new PeerlaneError("no-path", `no path to ${this.options.subsystemNqn} came up`, {
      place: reasons.join("; "),
      remedy: remedy ?? "check addresses and names, and that this host may connect",
    });
  }

  /** The controller of a path that is live; null: none is. */
  get live(): NvmfHost | null {
    for (const { host } of this.paths) if (host !== null) return host;
    return null;
  }

  /** The namespaces, as the first live path has them. */
  get namespaces(): readonly HostNamespace[] {
    return this.live?.namespaces ?? [];
  }

  /** Registers memory for every path. */
  async register(memory: IoMemory, offset: number, length: number): Promise<PathBuffer> {
    const all = this.options.transports.map((each) => each.register(memory, offset, length));
    const buffers = await Promise.all(all);
    return {
      buffers,
      release: async () => {
        await Promise.all(buffers.map((buffer) => buffer.release()));
      },
    };
  }

  /** See {@link PathSet.submit}; goes out at the next {@link poll}, or at `kick`. */
  submit(io: PathIo): void {
    this.set.submit(io);
  }

  kick(): void {
    for (const { link } of this.paths) for (const queue of link.queues) queue.kick();
  }

  poll(): number {
    let done = 0;
    for (const path of this.paths) done += path.poll();
    done += this.set.pump();
    this.kick();
    if (this.waiters.length > 0) this.wakeWaiters();
    return done;
  }

  private wakeWaiters(): void {
    const ready = this.waiters.filter(({ done }) => done());
    if (ready.length === 0) return;
    this.waiters = this.waiters.filter((waiter) => !ready.includes(waiter));
    for (const { resolve } of ready) resolve();
  }

  private until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve();
    return new Promise((resolve) => this.waiters.push({ done, resolve }));
  }

  /** Ends all: what waits or is in flight ends with Host Path Error. Poll meanwhile. */
  async close(): Promise<void> {
    this.set.isOver = true;
    await Promise.all(this.paths.map((path) => path.close()));
    await this.until(() => this.set.busy === 0 && this.paths.every((path) => !path.isDraining));
  }

  inspect(): Tree {
    const { busy, waiting, completed, resent } = this.set;
    return {
      subsystem: this.options.subsystemNqn,
      busy,
      waiting,
      completed,
      resent,
      paths: this.paths.map((path) => path.inspect()),
    };
  }
}
