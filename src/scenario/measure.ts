/**
 * What a runner is given from outside, and the CPU and wall time of a piece of work by it. CPU time
 * is that of this process.
 */

import type { Clock, Host } from "../platform/index.ts";

export interface RunContext {
  readonly clock: Clock;
  readonly host: Pick<Host, "cpuTime">;
  /**
   * I/Os made before the timed ones. Default: enough for steady state; 0 where nobody reads times.
   */
  readonly warmUpIos?: number;
  /** Called now and then with what is going on and the part that is done, 0 to 1. */
  readonly progress?: (what: string, part: number) => void;
}

export interface Moment {
  readonly cpuUs: number;
  readonly ns: number;
}

export function moment({ host, clock }: RunContext): Moment {
  const { userUs, systemUs } = host.cpuTime();
  return { cpuUs: userUs + systemUs, ns: clock.nowNs() };
}

export function since(start: Moment, context: RunContext): { totalUs: number; wallMs: number } {
  const end = moment(context);
  return { totalUs: end.cpuUs - start.cpuUs, wallMs: (end.ns - start.ns) / 1e6 };
}
