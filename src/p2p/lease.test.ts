import { describe, expect, it } from "vitest";
import { PEER_BYTES, peerSetup } from "../../testing/peer-setup.ts";
import { AssertionError, PeerlaneError } from "../core/index.ts";
import { MapStatus } from "../dma/index.ts";
import { AllocStatus, openLease, Provider, type Verdict } from "./index.ts";

/** True once every continuation that is ready has run. */
async function isSettled(promise: Promise<void>): Promise<boolean> {
  let settled = false;
  void promise.then(() => {
    settled = true;
  });
  for (let i = 0; i < 20; i++) await Promise.resolve();
  return settled;
}

const errorOf = (run: () => unknown): PeerlaneError => {
  try {
    run();
  } catch (error) {
    if (error instanceof PeerlaneError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
};

describe("openLease", () => {
  it("gives each initiator its route", () => {
    const { provider, rules, near, far, self, stranger } = peerSetup("off");
    const lease = openLease({ provider, rules, initiators: [near, far, self] });
    const routes = [near, far, self, stranger].map(({ id }) => lease.routeOf(id));
    expect(routes).toEqual(["bus", "host-bridge", "self", "none"]);
    expect(lease.inspect()).toMatchObject({ inFlight: 0, revoked: null });
  });

  it("refuses when one initiator is refused, with the verdict, and maps for none", () => {
    const { provider, rules, near, far, backing } = peerSetup("strict", { cpuForwards: false });
    const error = errorOf(() => openLease({ provider, rules, initiators: [near, far] }));
    expect(error.code).toBe("no-route");
    const { reason, remedies } = error.details["verdict"] as Verdict;
    expect(reason).toBe("no-common-bridge-unlisted");
    expect(error.remedy).toBe(remedies[0].text);
    expect(provider.references).toBe(0);
    expect(backing.iommu?.maps).toBe(0);
  });

  it("refuses ranges that are no run of the provider's pages", () => {
    const { provider, rules, near } = peerSetup("off");
    for (const [offset, length] of [
      [0, PEER_BYTES + 1],
      [-4096, 4096],
      [100, 4096],
      [0, 0],
    ]) {
      const range = { offset, length };
      const error = errorOf(() => openLease({ provider, rules, range, initiators: [near] }));
      expect(error.code).toBe("bad-lease-range");
    }
  });

  it("refuses a provider that is going away", async () => {
    const { provider, rules, near } = peerSetup("off");
    await provider.teardown();
    const error = errorOf(() => openLease({ provider, rules, initiators: [near] }));
    expect(error.code).toBe("provider-dying");
  });
});

describe("revoking a lease", () => {
  it("fails new I/O at once, waits for what is in flight, then unmaps", async () => {
    const { provider, rules, near, far, backing } = peerSetup("strict");
    const lease = openLease({ provider, rules, initiators: [near, far] });
    const offset = lease.allocate(4096);
    expect(offset).toBeGreaterThanOrEqual(0);
    const told: string[] = [];
    lease.onRevoke((reason) => told.push(reason));
    const done = lease.revoke("surprise removal");
    expect(told).toEqual(["surprise removal"]);
    expect(lease.begin()).toBe(false);
    expect(lease.allocate(4096)).toBe(-MapStatus.revoked);
    expect(await isSettled(done)).toBe(false);
    expect(backing.iommu?.pages).toBe(PEER_BYTES / 4096);
    lease.release(offset, 4096);
    await done;
    expect(backing.iommu?.pages).toBe(0);
    expect(provider.references).toBe(0);
    expect(lease.revokeReason).toBe("surprise removal");
  });

  it("is one thing however often it is asked for", async () => {
    const { provider, rules, near } = peerSetup("off");
    const lease = openLease({ provider, rules, initiators: [near] });
    const first = lease.revoke("first");
    expect(lease.revoke("second")).toBe(first);
    await lease.close();
    expect(lease.revokeReason).toBe("first");
    expect(provider.references).toBe(0);
  });

  it("stops at an I/O that ends twice", () => {
    const { provider, rules, near } = peerSetup("off");
    const lease = openLease({ provider, rules, initiators: [near] });
    expect(lease.begin()).toBe(true);
    lease.end();
    expect(() => lease.end()).toThrow(AssertionError);
  });

  it("says no memory, not revoked, when the pool is full", () => {
    const { provider, rules, near } = peerSetup("off");
    const lease = openLease({ provider, rules, initiators: [near] });
    expect(lease.allocate(PEER_BYTES)).toBe(0);
    expect(lease.allocate(4096)).toBe(-MapStatus.noResources);
    lease.release(0, PEER_BYTES);
    expect(lease.inFlight).toBe(0);
  });
});

describe("teardown of a provider", () => {
  it("unpublishes, revokes, waits for all users, releases: in this order", async () => {
    const { rules, near, owner, backing } = peerSetup("off");
    const log: string[] = [];
    const release = (): void => {
      log.push("released");
    };
    const provider = Provider.fromBar(backing.open(owner), 2, {}, { release });
    provider.publishedBy({ unpublish: () => log.push("unpublished") });
    const lease = openLease({ provider, rules, initiators: [near] });
    lease.onRevoke((reason) => log.push(`revoked: ${reason}`));
    const loose = provider.alloc(8192);
    const leased = lease.allocate(4096);
    const done = provider.teardown("hot unplug");
    expect(provider.state).toBe("dying");
    expect(provider.alloc(4096)).toBe(-AllocStatus.dying);
    expect(provider.allocAt(0x10_0000, 4096)).toBe(AllocStatus.dying);
    expect(await isSettled(done)).toBe(false);
    lease.release(leased, 4096);
    expect(await isSettled(done)).toBe(false);
    expect(log).toEqual(["unpublished", "revoked: hot unplug"]);
    provider.free(loose, 8192);
    await done;
    expect(log).toEqual(["unpublished", "revoked: hot unplug", "released"]);
    expect(provider.state).toBe("dead");
  });

  it("is immediate when nobody uses it, and the same for every caller", async () => {
    const { provider } = peerSetup("off");
    const done = provider.teardown();
    expect(provider.teardown()).toBe(done);
    await done;
    expect(provider.inspect()).toMatchObject({ state: "dead", references: 0, leases: [] });
  });

  it("counts a failed allocation, and takes no reference for it", () => {
    const { provider } = peerSetup("off");
    expect(provider.alloc(PEER_BYTES + 1)).toBe(-AllocStatus.noSpace);
    expect(provider.references).toBe(0);
    expect(provider.inspect()).toMatchObject({ allocFailures: 1 });
  });
});

describe("the range of a provider", () => {
  it("is what the BAR has, or a part of it", () => {
    const { backing, owner, provider } = peerSetup("off");
    const part = { offset: 0x10_0000, sizeBytes: 0x20_0000 };
    const half = Provider.fromBar(backing.open(owner), 2, part);
    expect(half.phys - provider.phys).toBe(0x10_0000);
    expect(half.busAt(0) - half.physAt(0)).toBe(provider.busOffset);
    expect(half.pool.available).toBe(0x20_0000);
  });

  it("must be memory, in its BAR, and start at a page", () => {
    const { backing, owner } = peerSetup("off");
    const fn = backing.open(owner);
    const codes = [
      () => Provider.fromBar(fn, 5),
      () => Provider.fromBar(fn, 2, { offset: 8192, sizeBytes: PEER_BYTES }),
      () => Provider.fromBar(fn, 2, { offset: 100, sizeBytes: 4096 }),
    ].map((run) => errorOf(run).code);
    expect(codes).toEqual(Array(3).fill("bad-provider-range"));
  });
});
