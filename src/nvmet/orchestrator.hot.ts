/**
 * The hot half of the orchestrator: memory for one request. Everything that has to be decided
 * (which provider, which route, which addresses) was decided at connect and lies in the binding;
 * here is a pool allocation, and the policy for when there is none.
 *
 * - `lease`: the vector is (lease, offset); both devices get their address from the lease.
 * - `dma-address`: the offset is a bare DMA address, one for the NIC and another for the disk, each
 *   in a memory that refuses every other initiator.
 *
 * In both, the lease's `inFlight` counts the request, so that a provider is not released under it;
 * the RFC left that to the caller.
 *
 * Invariants: a request with peer or host placement holds exactly one run of one pool until
 * `releaseMemory`, one with reserve placement its connection's reserve; a connection holds no more
 * than its share (share.hot.ts); a fallback or a refusal is always counted under its cause.
 */

import { NO_MEMORY } from "../block/index.ts";
import { assert } from "../core/index.ts";
import { MapStatus } from "../memory/index.ts";
import type { LeaseState } from "../p2p/index.ts";
import { NvmeStatus } from "../spec/nvme/index.ts";
import { Event } from "../trace/index.ts";
import { type HostPool, type NamespaceBinding, Policy } from "./binding.hot.ts";
import { Cause, RouteIndex } from "./counters.ts";
import { Placement, type TargetRequest } from "./request.hot.ts";
import { PoolKind } from "./share.hot.ts";

/**
 * `allocateMemory` and `allocateHost` answer this when host buffers are used up, or the connection
 * has its share of what there is: try again later.
 */
export const WAIT = -1;

/**
 * Memory for `request.dataBytes` of an I/O: from the provider, or as the policy says. Returns an
 * NVMe status, or {@link WAIT}.
 */
export function allocateMemory(request: TargetRequest, binding: NamespaceBinding): number {
  request.binding = binding;
  if (!binding.wantsPeer || request.hostOnly) return allocateHost(request, binding);
  const { lease } = binding;
  let cause: Cause = Cause.noProvider;
  if (lease !== null && !mayTakePeer(request, lease)) {
    // Its own commands will give some back; where it may, it goes on without.
    if (binding.policy === Policy.fail) return WAIT;
    cause = Cause.exhausted;
  } else if (lease !== null) {
    const at = lease.allocate(request.dataBytes);
    if (at >= 0) {
      placeInPeer(request, binding, lease, at);
      return NvmeStatus.success;
    }
    cause = at === -MapStatus.revoked ? Cause.revoked : Cause.exhausted;
  }
  const status = missPeer(request, binding, cause);
  return status === NvmeStatus.success ? allocateHost(request, binding) : status;
}

function mayTakePeer({ share, dataBytes }: TargetRequest, lease: LeaseState): boolean {
  return share.mayTake(PoolKind.peer, lease.sizeOf(dataBytes), lease.availableBytes);
}

function placeInPeer(
  request: TargetRequest,
  binding: NamespaceBinding,
  lease: LeaseState,
  at: number,
): void {
  binding.counters.peerAllocations++;
  request.share.take(PoolKind.peer, lease.sizeOf(request.dataBytes));
  request.placement = Placement.peer;
  // Not read from the binding later: the provider may have been exchanged by then.
  request.lease = lease;
  request.netMemory = binding.netMemory;
  request.netWindow = binding.netWindow;
  request.netOffset = binding.netBase + at;
  request.diskMemory = binding.diskMemory;
  request.diskOffset = binding.diskBase + at;
  request.poolOffset = at;
  request.poolBytes = request.dataBytes;
}

/** Counts the miss under its cause. Success: the policy lets the request use host memory. */
export function missPeer(request: TargetRequest, binding: NamespaceBinding, cause: Cause): number {
  const { counters } = binding;
  if (binding.trace.on) {
    const isFallback = binding.policy === Policy.hostMemory ? 1 : 0;
    binding.trace.emit(Event.nvmetFallback, binding.nsid, cause, request.dataBytes, isFallback);
  }
  if (binding.policy === Policy.hostMemory) {
    // A request that waits for a host buffer asks again; it fell back once.
    request.hostOnly = true;
    counters.fallbacks[cause]++;
    return NvmeStatus.success;
  }
  counters.refusals[cause]++;
  // Exhaustion passes; the rest is this path's fault, and another path may do.
  return cause === Cause.exhausted ? NvmeStatus.commandInterrupted : NvmeStatus.internalPathError;
}

function allocateHost(request: TargetRequest, binding: NamespaceBinding): number {
  const { host } = binding;
  if (host === null) return NvmeStatus.internalError;
  const status = takeHostBuffer(request, host);
  if (status !== NvmeStatus.success) return status;
  binding.counters.hostAllocations++;
  const { reserveDisks } = request.share;
  const isReserve = request.placement === Placement.reserve;
  request.diskMemory = isReserve
    ? (reserveDisks[binding.nsid] ?? NO_MEMORY)
    : binding.hostDiskMemory;
  request.diskOffset = request.poolOffset;
  return status;
}

/**
 * A host buffer that the CPU reads or writes: admin data, ranges. Returns a status or {@link WAIT}.
 */
export function takeHostBuffer(request: TargetRequest, host: HostPool): number {
  const { share, dataBytes } = request;
  const bytes = host.pool.sizeOf(dataBytes);
  const isAllowed = share.mayTake(host.kind, bytes, host.pool.available);
  const at = isAllowed ? host.pool.alloc(dataBytes) : -1;
  if (at < 0) {
    if (!share.takeReserve(dataBytes)) return WAIT;
    request.placement = Placement.reserve;
    request.netMemory = share.reserveMemory;
    request.netOffset = 0;
    request.poolOffset = 0;
    return NvmeStatus.success;
  }
  share.take(host.kind, bytes);
  host.inUse++;
  request.placement = Placement.host;
  request.pool = host;
  request.netMemory = host.netMemory;
  request.netOffset = at;
  request.poolOffset = at;
  request.poolBytes = request.dataBytes;
  return NvmeStatus.success;
}

/** Gives the request's memory back to where it came from. */
export function releaseMemory(request: TargetRequest): void {
  const { placement, lease, pool } = request;
  if (placement === Placement.peer) {
    assert(lease !== null, "peer memory came from a lease");
    request.share.give(PoolKind.peer, lease.sizeOf(request.poolBytes));
    lease.release(request.poolOffset, request.poolBytes);
  } else if (placement === Placement.host) {
    assert(pool !== null, "a host buffer came from a pool");
    request.share.give(pool.kind, pool.pool.sizeOf(request.poolBytes));
    pool.pool.free(request.poolOffset, request.poolBytes);
    pool.inUse--;
  } else if (placement === Placement.reserve) {
    request.share.giveReserve();
  }
  request.clearPlacement();
}

/** Counts the payload that moved, by the route of each leg. */
export function countBytes(request: TargetRequest, binding: NamespaceBinding): void {
  const { counters } = binding;
  let net = RouteIndex.hostMemory;
  let disk = RouteIndex.hostMemory;
  if (request.placement === Placement.peer) {
    net = binding.netRoute;
    disk = binding.diskRoute;
  } else if (request.placement === Placement.capsule) {
    net = RouteIndex.capsule;
  } else if (request.placement === Placement.direct) {
    net = RouteIndex.direct;
    disk = RouteIndex.direct;
  }
  counters.netBytes[net] += request.dataBytes;
  counters.diskBytes[disk] += request.dataBytes;
}
