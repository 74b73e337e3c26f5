/** `peerlane diff BEFORE [AFTER]`: what differs between two machines, and which verdicts change. */

import { ExitStatus, UsageError } from "../../core/index.ts";
import { diffJson, diffMachines, isSame, renderDiff } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { loadMachine } from "../machine-input.ts";
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
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["diff lspci.txt --set-acs 17:00.0=0x1d", "what one ACS word does to all verdicts"],
            ["diff lspci.txt --kernel 5.15", "what an older kernel does"],
            [
              "diff before.txt after.txt",
              "two machines, or one before and after a change of slots",
            ],
          ],
          exit: "0 nothing differs; 1 something does",
          notes: ["Functions of two machines are matched by name and ids, then by ids in order."],
        }),
      );
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
          printText(context, renderDiff(report, context.paint, terminalColumns(context)));
        }
        return isSame(report) ? ExitStatus.ok : ExitStatus.failure;
      }),
    );
  },
};
