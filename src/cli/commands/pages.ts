/**
 * `peerlane pages FILE... | --bar SIZE`: what struct page would cost, and whether it can be had.
 */

import { ExitStatus, UsageError } from "../../core/index.ts";
import {
  pagesJson,
  pagesOfMachine,
  pagesOfSize,
  parseAddress,
  renderPages,
  sizeOf,
} from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly bar?: string;
  readonly at?: string;
  readonly ram?: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

export const pages: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("pages")
      .description("what struct page behind BARs would cost, and whether they fit the linear map")
      .argument("[file...]", "dumps of the machine; - is standard input")
      .option("--bar <size>", "a BAR of this size, as 80GiB, instead of a machine's")
      .option("--at <address>", "physical address of that BAR, as 0x58500000")
      .option("--ram <address>", "where that machine's RAM begins, as 0x80000000")
      .option("-a, --all", "every BAR of every device, not the largest of those with memory")
      .option("--json", "as JSON")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["pages lspci.txt", "every GPU, NVMe and accelerator with memory"],
            ["pages --bar 64KiB --at 0x58500000 --ram 0x80000000", "a BAR without a machine"],
          ],
          exit: "0 answered, whatever the answer; 1 the dump cannot be read",
        }),
      );
    addWhatIf(command).action((files: string[], options: Options) =>
      run(async () => {
        const { report, changes } = await reportFor(files, options);
        if (options.json === true) printJson(context, pagesJson(report));
        else {
          printChanges(context, changes);
          printText(context, renderPages(report, context.paint, terminalColumns(context)));
        }
        return ExitStatus.ok;
      }),
    );

    async function reportFor(files: readonly string[], options: Options) {
      if (options.bar !== undefined && files.length === 0) {
        const [at, ram] = [options.at, options.ram].map((text) =>
          text === undefined ? null : parseAddress(text),
        );
        return { report: pagesOfSize(sizeOf(options.bar), at, ram), changes: [] };
      }
      if ([options.bar, options.at, options.ram].some((text) => text !== undefined)) {
        throw new UsageError("bad-pages", "--bar, --at and --ram are for a BAR without a machine", {
          remedy: "give either files or --bar SIZE [--at ADDRESS] [--ram ADDRESS]",
        });
      }
      const { machine, changes } = await loadSubject(context, files, options);
      return { report: pagesOfMachine(machine, options.all === true), changes };
    }
  },
};
