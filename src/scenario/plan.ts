/**
 * Lays a workload out: I/Os one after another in buffer and namespace, those of one size as a
 * group, submitted in an order that the seed shuffles within the group.
 */

import { formatBytes, type Prng, UsageError, WORKLOAD_BYTES_MAX } from "../core/index.ts";
import type { Scenario } from "./schema.ts";
import type { WorkloadGroup, WorkloadPlan } from "./workload.hot.ts";

/** Throws {@link UsageError} `bad-workload` when it does not fit the namespace or the limits. */
export function planWorkload(scenario: Scenario, prng: Prng): WorkloadPlan {
  const { operations } = scenario.workload;
  const { blockBytes, size: namespaceBytes } = scenario.namespace;
  const count = operations.reduce((sum, operation) => sum + operation.count, 0);
  const totalBytes = operations.reduce((sum, { count: n, size }) => sum + n * size, 0);
  for (const { size } of operations) {
    if (size % blockBytes === 0) continue;
    throw new UsageError("bad-workload", `${size} bytes are not whole blocks of ${blockBytes}`, {
      remedy: "choose sizes that are multiples of namespace.blockBytes",
    });
  }
  const bound = Math.min(namespaceBytes, WORKLOAD_BYTES_MAX);
  if (totalBytes > bound) {
    const sizes = `${formatBytes(totalBytes)}, and at most ${formatBytes(bound)} fit`;
    throw new UsageError("bad-workload", `the workload writes ${sizes}`, {
      remedy: "write less, or make namespace.size larger (up to the limit of one workload)",
    });
  }
  const offsets = new Float64Array(count);
  const lengths = new Uint32Array(count);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const groups: WorkloadGroup[] = [];
  let at = 0;
  let io = 0;
  for (const operation of operations) {
    groups.push({ start: io, count: operation.count, size: operation.size });
    shuffle(order, io, operation.count, prng);
    for (let i = 0; i < operation.count; i++, io++) {
      offsets[io] = at;
      lengths[io] = operation.size;
      at += operation.size;
    }
  }
  return { count, blockBytes, totalBytes, offsets, lengths, order, groups };
}

/** Fisher and Yates, over `count` entries from `start`. */
function shuffle(order: Uint32Array, start: number, count: number, prng: Prng): void {
  for (let i = count - 1; i > 0; i--) {
    const a = start + i;
    const b = start + prng.below(i + 1);
    const held = order[a] as number;
    order[a] = order[b] as number;
    order[b] = held;
  }
}
