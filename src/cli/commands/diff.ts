/** `peerlane diff BEFORE [AFTER]`: what differs between two machines, and which verdicts change. */

import { ExitStatus, UsageError } from "../../core/index.ts";
import { diffJson, diffMachines, isSame, renderDiff } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { loadMachine } from "../machine-input.ts";
import { makePaint } from "../paint.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly all?: boolean;
  readonly json?: boolean;
}

export const diff: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("diff")
      .description("what differs between two machines, or before and after a what-if")
      .argument("<before>", "a dump, a folder or a machine.json")
      .argument("[after]", "another one; without it, the first one with the what-ifs applied")
      .option("-a, --all", "verdicts of every function, not only of devices of interest")
      .option("--json", "as JSON")
      .addHelpText("after", "\nExit status: 0 when nothing differs, 1 when something does.");
    addWhatIf(command).action((first: string, second: string | undefined, options: Options) =>
      run(async () => {
        const before = await loadMachine(context, [first]);
        const subject = await loadSubject(context, [second ?? first], options);
        if (second === undefined && subject.changes.length === 0) {
          throw new UsageError(
            "no-difference-asked",
            "one machine and no change: nothing to compare",
            {
              remedy: "name a second machine, or add a what-if, as --set-acs 02:00.0=0",
            },
          );
        }
        const { all, rules } = options;
        const report = diffMachines(before, subject.machine, {
          all,
          rules,
          nameOf: second === undefined ? subject.nameOf : undefined,
        });
        if (options.json === true) printJson(context, diffJson(report));
        else {
          printChanges(context, subject.changes);
          printText(
            context,
            renderDiff(report, makePaint(context.colors), terminalColumns(context)),
          );
        }
        return isSame(report) ? ExitStatus.ok : ExitStatus.failure;
      }),
    );
  },
};
