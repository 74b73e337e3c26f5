/** `peerlane capture -o machine.json`: this machine as a file that every command reads. */

import { ExitStatus } from "../../core/index.ts";
import { captureMachine, serializeMachine } from "../../machine/index.ts";
import type { CommandModule } from "../command.ts";
import { printNotes, printText } from "../context.ts";
import { helpTail } from "../help-text.ts";

interface Options {
  readonly output?: string;
  readonly name?: string;
  readonly root?: string;
}

export const capture: CommandModule = {
  register(program, run, context) {
    program
      .command("capture")
      .description("write this machine to a file; reads /sys and /proc, never writes to them")
      .option("-o, --output <file>", "where to; standard output when not given")
      .option("--name <name>", "what to call it; the product name otherwise")
      .option("--root <folder>", "another root file system, as of a container's host")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["capture -o machine.json", "this machine, for every other command"],
            ["capture --root /host -o machine.json", "from inside a container that mounts it"],
          ],
          exit: "0 written; 1 this machine cannot be read",
          notes: [
            "Serial numbers and MAC addresses are left out.",
            "Root sees the most: without it ACS stays unknown.",
          ],
        }),
      )
      .action(({ output, name, root }: Options) =>
        run(async () => {
          const machine = await captureMachine(context.files, {
            ...(name === undefined ? {} : { name }),
            ...(root === undefined ? {} : { root }),
          });
          printNotes(context, machine.warnings);
          const text = serializeMachine(machine);
          if (output === undefined) {
            printText(context, text);
          } else {
            await context.files.write(output, text);
            const { functions } = machine;
            printText(context, `${output}: ${functions.length} functions of ${machine.name}`);
          }
          return ExitStatus.ok;
        }),
      );
  },
};
