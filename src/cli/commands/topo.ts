/** `peerlane topo FILE...`: the tree of a machine, or its whole snapshot as JSON. */

import { ExitStatus } from "../../core/index.ts";
import { serializeMachine } from "../../machine/index.ts";
import { renderTopo } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly all?: boolean;
  readonly json?: boolean;
}

export const topo: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("topo")
      .description("show a machine as a tree: links, ACS, buses, memory BARs")
      .argument("<file...>", "dumps of one machine (lspci -vvv -xxxx and others); - is stdin")
      .option("-a, --all", "every function, not only devices of interest and their bridges")
      .option("--json", "the whole machine as machine.json, which every command reads")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["topo lspci.txt", "the tree of that machine"],
            [
              "topo nn.txt tree.txt host.txt --json",
              "several files of one machine, as one machine.json",
            ],
          ],
          exit: "0 shown; 1 the dump cannot be read",
        }),
      );
    addWhatIf(command).action((files: string[], options: Options) =>
      run(async () => {
        const { machine, changes } = await loadSubject(context, files, options);
        if (options.json === true) {
          printText(context, serializeMachine(machine));
        } else {
          printChanges(context, changes);
          const { paint } = context;
          const all = options.all === true;
          const columns = terminalColumns(context);
          printText(context, renderTopo(machine, { all, paint, columns }));
        }
        return ExitStatus.ok;
      }),
    );
  },
};
