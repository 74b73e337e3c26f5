/** What the runner asks of a job, whatever moves the data: a file's reader or a remote writer. */

import type { DmaDevice } from "../../dma/index.ts";
import type { GpuTarget } from "./target.ts";

export interface JobResult {
  /** I/Os or work requests that carried payload. */
  readonly requests: number;
  readonly bytes: number;
  readonly errors: number;
  /** Status of the first that failed. */
  readonly firstError: string | null;
}

export interface PreparedJob {
  /** Whose DMA goes to the GPU. */
  readonly partner: DmaDevice;
  /** Moves the payload into the target. */
  run(target: GpuTarget): Promise<JobResult>;
  close(): Promise<void>;
}
