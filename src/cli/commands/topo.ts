/** `peerlane topo FILE...`: the tree of a machine. */

import { ExitStatus } from "../../core/index.ts";
import { renderTopo } from "../../planner/index.ts";
import { printJson, printText } from "../context.ts";
import { loadMachine } from "../machine-input.ts";
import { makePaint } from "../paint.ts";
import type { CommandModule } from "../program.ts";

export const topo: CommandModule = {
  register(program, run, context) {
    program
      .command("topo")
      .description("show a machine as a tree: links, ACS, buses, memory BARs")
      .argument("<file...>", "dumps of one machine (lspci -vvv -xxxx and others); - is stdin")
      .option("--all", "every function, not only devices of interest and their bridges")
      .option("--json", "the whole snapshot as JSON")
      .action((files: string[], options: { all?: boolean; json?: boolean }) =>
        run(async () => {
          const machine = await loadMachine(context, files);
          if (options.json === true) {
            printJson(context, machine);
          } else {
            const paint = makePaint(context.colors);
            printText(context, renderTopo(machine, { all: options.all === true, paint }));
          }
          return ExitStatus.ok;
        }),
      );
  },
};
