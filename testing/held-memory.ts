/** That no request holds any of a target's buffers. */

import { expect } from "vitest";
import type { TargetAssembly } from "../src/nvmet/index.ts";

export function expectNothingHeld({ orchestrator }: TargetAssembly): void {
  for (const { requests, controlRequests, sizeBytes, availableBytes } of orchestrator.hostPools) {
    expect([requests, controlRequests]).toEqual([0, 0]);
    expect(availableBytes).toBe(sizeBytes);
  }
}
