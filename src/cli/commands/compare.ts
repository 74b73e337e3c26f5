/** `peerlane compare`: the five descriptions of I/O memory side by side, on one machine. */

import { ExitStatus } from "../../core/index.ts";
import {
  compareCsv,
  compareDescriptions,
  compareMarkdown,
  renderCompare,
} from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { printJson, printText } from "../context.ts";
import { loadMachine } from "../machine-input.ts";

interface Options {
  readonly machine?: string[];
  readonly json?: boolean;
  readonly csv?: boolean;
  readonly markdown?: boolean;
}

export const compare: CommandModule = {
  register(program, perform, context) {
    program
      .command("compare")
      .description("five descriptions of I/O memory side by side: what each costs, and can do")
      .option("-m, --machine <file...>", "dumps of the machine; without, the HGX H100 that ships")
      .option("--json", "the report as one JSON document")
      .option("--csv", "one line per figure")
      .option("--markdown", "the page docs/compare.md")
      .action((options: Options) =>
        perform(async () => {
          const shipped = `${context.shipped}/scenarios/machines/hgx-h100-gpud.vvv.txt`;
          const machine = await loadMachine(context, options.machine ?? [shipped]);
          const report = await compareDescriptions(machine, { clock: context.clock });
          if (options.json === true) printJson(context, report);
          else if (options.csv === true) printText(context, compareCsv(report));
          else if (options.markdown === true) printText(context, compareMarkdown(report));
          else printText(context, renderCompare(report));
          return ExitStatus.ok;
        }),
      );
  },
};
