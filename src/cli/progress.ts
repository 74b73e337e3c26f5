/**
 * A progress bar on standard error, for a person who waits: shown after a second, only on a
 * terminal, gone without a trace when the work is done.
 */

import { type Options, Presets, SingleBar } from "cli-progress";
import type { Context } from "./context.ts";

const SHOW_AFTER_NS = 1e9;
const BAR_MAX = 1000;

export interface Progress {
  readonly report: (what: string, part: number) => void;
  stop(): void;
}

export function startProgress(context: Context): Progress {
  const { clock, host } = context;
  if (!host.stderr.isTTY) return { report: () => undefined, stop: () => undefined };
  const startNs = clock.nowNs();
  let bar: SingleBar | null = null;
  return {
    report(what, part) {
      if (bar === null && clock.nowNs() - startNs < SHOW_AFTER_NS) return;
      if (bar === null) {
        const options: Options = {
          format: "{bar} {what}",
          clearOnComplete: true,
          hideCursor: true,
        };
        bar = new SingleBar(options, Presets.shades_classic);
        bar.start(BAR_MAX, 0, { what });
      }
      bar.update(Math.round(part * BAR_MAX), { what });
      // The run is synchronous, so the bar's own timer never fires: it is drawn here.
      bar.render();
    },
    stop: () => bar?.stop(),
  };
}
