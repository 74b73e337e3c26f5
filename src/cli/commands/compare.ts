/** `peerlane compare`: the five descriptions of I/O memory side by side, on one machine. */

import { ExitStatus } from "../../core/index.ts";
import {
  COMPARE_WORKLOADS,
  type CompareReport,
  compareCsv,
  compareDescriptions,
  compareHtml,
  compareMarkdown,
  DEFAULT_WORKLOAD,
  parseWorkload,
  renderCompare,
} from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { printJson, printText } from "../context.ts";
import { loadMachine, loadMachineOrShipped } from "../machine-input.ts";

interface Options {
  readonly machine?: string[];
  readonly workload: string;
  readonly json?: boolean;
  readonly csv?: boolean;
  readonly html?: boolean;
  readonly markdown?: boolean;
}

/** Where bus addresses differ from host bridge to host bridge. */
const LANDING = "scenarios/machines/three-host-bridges.json";

export const compare: CommandModule = {
  register(program, perform, context) {
    const names = COMPARE_WORKLOADS.map(({ name }) => name).join(", ");
    program
      .command("compare")
      .description("five descriptions of I/O memory side by side: what each costs, and can do")
      .option("-m, --machine <file...>", "dumps of the machine; without, the HGX H100 that ships")
      .option(
        "-w, --workload <what>",
        `${names}; or settings: bs=4k,iodepth=32,rw=randrw,mix=70`,
        DEFAULT_WORKLOAD.name,
      )
      .option("--json", "the report as one JSON document")
      .option("--csv", "one line per figure")
      .option("--html", "one HTML file that needs nothing else")
      .option("--markdown", "the page docs/compare.md")
      .action((options: Options) =>
        perform(async () => {
          const workload = parseWorkload(options.workload);
          const machine = await loadMachineOrShipped(context, options.machine);
          const landingMachine = await loadMachine(context, [`${context.shipped}/${LANDING}`]);
          const { clock } = context;
          const report = await compareDescriptions(machine, { clock, workload, landingMachine });
          if (options.json === true) printJson(context, report);
          else printText(context, formOf(options)(report));
          return ExitStatus.ok;
        }),
      );
  },
};

function formOf({ csv, html, markdown }: Options): (report: CompareReport) => string {
  if (csv === true) return compareCsv;
  if (html === true) return compareHtml;
  return markdown === true ? compareMarkdown : renderCompare;
}
