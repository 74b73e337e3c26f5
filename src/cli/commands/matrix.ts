/** `peerlane matrix FILE...`: verdicts for all pairs, as a grid, JSON or CSV. */

import { Option } from "commander";
import { ExitStatus, INPUT_FILE_BYTES_MAX } from "../../core/index.ts";
import { compareWithNvsmi, type Machine, parseNvsmiTopo } from "../../machine/index.ts";
import { matrixCsv, matrixJson, matrixOf, renderMatrix, renderNvsmi } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printChanges, printPieces, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { withoutNvsmi } from "../nvsmi-input.ts";
import { addWhatIf, givenText, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly all?: boolean;
  readonly nvsmi?: string;
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
      .option("--nvsmi <file>", "`nvidia-smi topo -m` of the same machine, to be compared")
      .option("--json", "all pairs as JSON")
      .addOption(new Option("--csv", "all pairs as CSV").conflicts("json"))
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["matrix lspci.txt", "all pairs of NVMe, NIC, GPU and accelerator"],
            ["matrix lspci.txt --all --json --kernel 6.12", "every function, for a program"],
            ["matrix lspci.txt --iommu strict", "with the ACS bits that Linux sets for an IOMMU"],
          ],
          exit: "0 judged, whatever the verdicts; 1 the dump cannot be read",
        }),
      );
    addWhatIf(command).action((files: string[], options: Options) =>
      perform(async () => {
        const given = await withoutNvsmi(context, files);
        const { machine, changes } = await loadSubject(context, given.dumps, options);
        const comparison = await comparisonWith(context, machine, options.nvsmi ?? given.nvsmi);
        const report = matrixOf(machine, { ...options, given: givenText(given.dumps, options) });
        if (options.json === true) printPieces(context, matrixJson(report, comparison));
        else if (options.csv === true) printPieces(context, matrixCsv(report));
        else {
          const { paint } = context;
          printChanges(context, changes);
          const columns = terminalColumns(context);
          printText(context, renderMatrix(report, paint, columns));
          if (comparison !== null) {
            printText(context, `\n${renderNvsmi(comparison, paint, columns)}`);
          }
        }
        return ExitStatus.ok;
      }),
    );
  },
};

async function comparisonWith(context: Context, machine: Machine, file: string | undefined) {
  if (file === undefined) return null;
  const text = await context.files.readText(file, INPUT_FILE_BYTES_MAX);
  return compareWithNvsmi(machine, parseNvsmiTopo(text, file));
}
