/** `peerlane matrix FILE...`: verdicts for all pairs, as a grid, JSON or CSV. */

import { ExitStatus } from "../../core/index.ts";
import { matrixCsv, matrixJson, matrixOf, renderMatrix } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printPieces, printText } from "../context.ts";
import { makePaint } from "../paint.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly all?: boolean;
  readonly json?: boolean;
  readonly csv?: boolean;
}

export const matrix: CommandModule = {
  register(program, perform, context) {
    const command = program
      .command("matrix")
      .description(
        "who reaches whom: route and distance of all pairs (NVMe, NIC, GPU, accelerators)",
      )
      .argument("<file...>", "dumps of the machine; - is standard input")
      .option("-a, --all", "every function")
      .option("--json", "all pairs as JSON")
      .option("--csv", "all pairs as CSV");
    addWhatIf(command).action((files: string[], options: Options) =>
      perform(async () => {
        const { machine, changes } = await loadSubject(context, files, options);
        const report = matrixOf(machine, options);
        if (options.json === true) printPieces(context, matrixJson(report));
        else if (options.csv === true) printPieces(context, matrixCsv(report));
        else {
          const paint = makePaint(context.colors);
          printChanges(context, changes);
          printText(context, renderMatrix(report, { paint, columns: context.host.stdout.columns }));
        }
        return ExitStatus.ok;
      }),
    );
  },
};
