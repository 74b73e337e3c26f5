/**
 * Several paths to the same data: each bio goes down one of them; a path error sends it down
 * another, counted, until no path is left that was not tried.
 *
 * A path error (`isPathError`) other than `noRoute` also marks the path as failed, so that later
 * bios avoid it until {@link MultipathQueue.reinstate}. `noRoute` and `wrongInitiator` speak of the
 * memory and not of the path: the bio tries the next one, which may have a route, and the path
 * stays. Whether a path's device may have an address is asked anew for each try, of that device.
 *
 * Invariants: every submitted bio ends once, with `ok` or with the last path's status; no path is
 * tried twice for one bio. Leaves out: waiting for a path to come back (queue_if_no_path), ANA
 * states, probing failed paths.
 */

import { assert, type Tree } from "../../core/index.ts";
import { type Bio, type BioOwner, BioPool } from "../bio.hot.ts";
import { checkBio } from "../check.hot.ts";
import type { QueueLimits } from "../limits.ts";
import type { BlockQueue } from "../queue.hot.ts";
import { checkMove } from "../remap.hot.ts";
import { BlockStatus, isPathError } from "../status.ts";
import { WaitList } from "../wait-list.hot.ts";
import { PathCounters } from "./path-counters.ts";
import { badStack, limitsOver, partsOf, type StackOptions } from "./stack-options.ts";

/** How the next path is chosen among those that live. */
export const PathPolicy = {
  /** In turn. */
  roundRobin: 0,
  /** The one with the fewest bios under way; the first of equals. */
  queueDepth: 1,
  /** The first; the others stand by. */
  failover: 2,
} as const;
export type PathPolicy = (typeof PathPolicy)[keyof typeof PathPolicy];

export const PATH_POLICY_NAMES: readonly string[] = ["round-robin", "queue-depth", "failover"];

export interface MultipathOptions extends StackOptions {
  readonly policy?: PathPolicy;
}

/** Tried paths are bits of a number. */
const PATHS_MAX = 31;
const NO_PATH = -1;

export class MultipathQueue implements BlockQueue, BioOwner {
  readonly name: string;
  readonly limits: QueueLimits;
  readonly features: number;
  readonly initiator = 0;
  readonly capacityBytes: number;
  readonly paths: readonly BlockQueue[];
  readonly policy: PathPolicy;
  readonly counters: PathCounters;
  private readonly live: boolean[];
  private readonly parts: BioPool;
  /** By tag of a part: the bio it stands for, its path, and the paths that it tried. */
  private readonly origins: (Bio | null)[];
  private readonly pathOf: Int32Array;
  private readonly tried: Int32Array;
  private readonly freeTags: Int32Array;
  private freeCount: number;
  private next = 0;
  private readonly waiting = new WaitList();
  private needsKick = false;

  /** Throws `bad-stack`: no path, more than 31, or paths of different sizes. */
  constructor(paths: readonly BlockQueue[], options: MultipathOptions = {}) {
    this.limits = limitsOver(paths, options.inherit ?? "all", paths[0]?.limits.chunkBytes ?? 0);
    if (paths.length > PATHS_MAX) badStack(`${paths.length} paths`, `give at most ${PATHS_MAX}`);
    this.capacityBytes = (paths[0] as BlockQueue).capacityBytes;
    if (paths.some(({ capacityBytes }) => capacityBytes !== this.capacityBytes)) {
      badStack("its paths lead to different sizes", "give paths to one namespace", {
        sizes: paths.map(({ capacityBytes }) => capacityBytes),
      });
    }
    this.name = options.name ?? "multipath";
    this.features = this.limits.features;
    this.paths = paths;
    this.policy = options.policy ?? PathPolicy.roundRobin;
    this.counters = new PathCounters(paths.length);
    this.live = paths.map(() => true);
    const parts = partsOf(options, 1);
    this.parts = new BioPool(parts, 0);
    this.origins = new Array<Bio | null>(parts).fill(null);
    this.pathOf = new Int32Array(parts);
    this.tried = new Int32Array(parts);
    this.freeTags = Int32Array.from({ length: parts }, (_, i) => i);
    this.freeCount = parts;
  }

  /** Makes a failed path eligible again. */
  reinstate(path: number): void {
    assert(path >= 0 && path < this.live.length, "a path is one of this queue's");
    this.live[path] = true;
  }

  isLive(path: number): boolean {
    return this.live[path] === true;
  }

  submit(bio: Bio): void {
    this.counters.bios++;
    bio.begin();
    const status = checkBio(bio, this.limits, this.capacityBytes);
    if (status !== BlockStatus.ok) {
      this.counters.rejected++;
      bio.end(status);
      return;
    }
    bio.next = null;
    if (!this.waiting.isEmpty || this.freeCount === 0) this.wait(bio);
    else this.start(bio);
  }

  private start(bio: Bio): void {
    const tag = this.freeTags[--this.freeCount];
    const part = this.parts.acquire() as Bio;
    part.cloneOf(bio);
    part.owner = this;
    part.tag = tag;
    this.origins[tag] = bio;
    this.tried[tag] = 0;
    this.send(part, BlockStatus.transport);
  }

  /** Down the next path that may take it; ends its bio with `status` when there is none left. */
  private send(part: Bio, status: number): void {
    const { counters, tried, pathOf } = this;
    const { tag } = part;
    let reason = status;
    for (;;) {
      const path = this.choose(tried[tag]);
      if (path === NO_PATH) break;
      tried[tag] |= 1 << path;
      const verdict = checkMove(part, this.paths[path]);
      if (verdict === BlockStatus.ok) {
        pathOf[tag] = path;
        counters.sent[path]++;
        counters.inFlight[path]++;
        this.paths[path].submit(part);
        return;
      }
      reason = verdict;
      counters.refused[path]++;
      // Revoked, or a feature that is missing: no other path changes that.
      if (verdict !== BlockStatus.wrongInitiator && verdict !== BlockStatus.noRoute) break;
    }
    if (isPathError(reason)) counters.exhausted++;
    this.finish(part, reason);
  }

  /** A live path that is not in `tried`; failed ones never. */
  private choose(tried: number): number {
    const { live, paths, policy } = this;
    const count = paths.length;
    const start = policy === PathPolicy.roundRobin ? this.next : 0;
    let best = NO_PATH;
    for (let i = 0; i < count; i++) {
      const path = (start + i) % count;
      if (!live[path] || (tried & (1 << path)) !== 0) continue;
      const { inFlight } = this.counters;
      if (best === NO_PATH || inFlight[path] < inFlight[best]) best = path;
      if (policy !== PathPolicy.queueDepth) break;
    }
    if (policy === PathPolicy.roundRobin && best !== NO_PATH) this.next = (best + 1) % count;
    return best;
  }

  /** Of a part: done, or on to another path. */
  bioDone(part: Bio): void {
    const { counters } = this;
    const { status, tag } = part;
    const path = this.pathOf[tag];
    counters.inFlight[path]--;
    const isMemory = status === BlockStatus.wrongInitiator || status === BlockStatus.noRoute;
    if (!isPathError(status) && !isMemory) {
      this.finish(part, status);
      return;
    }
    if (isMemory) {
      counters.refused[path]++;
    } else {
      counters.errors[path]++;
      this.live[path] = false;
    }
    counters.failovers++;
    this.needsKick = true;
    this.send(part, status);
  }

  private finish(part: Bio, status: number): void {
    const { tag } = part;
    const bio = this.origins[tag] as Bio;
    this.origins[tag] = null;
    this.freeTags[this.freeCount++] = tag;
    this.parts.release(part);
    bio.end(status);
  }

  kick(): void {
    const { paths } = this;
    this.needsKick = false;
    for (let i = 0; i < paths.length; i++) paths[i].kick();
  }

  poll(): number {
    const { paths } = this;
    let done = 0;
    for (let i = 0; i < paths.length; i++) done += paths[i].poll();
    while (!this.waiting.isEmpty && this.freeCount > 0) {
      const bio = this.waiting.shift();
      this.needsKick = true;
      done++;
      this.start(bio);
    }
    if (this.needsKick) this.kick();
    return done;
  }

  private wait(bio: Bio): void {
    this.counters.busy++;
    this.waiting.push(bio);
  }

  inspect(): Tree {
    return {
      name: this.name,
      capacityBytes: this.capacityBytes,
      policy: PATH_POLICY_NAMES[this.policy],
      limits: this.limits.inspect(),
      counters: this.counters.inspect(),
      paths: this.paths.map((path, i) => ({ live: this.live[i], queue: path.inspect() })),
    };
  }
}
