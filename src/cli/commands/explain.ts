/** `peerlane explain A B -m FILE...`: can A reach the memory of B, by which route, why not. */

import { ExitStatus, parseBdf, UsageError } from "../../core/index.ts";
import { explainPair, explanationJson, renderExplanation } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly machine: string[];
  readonly direction?: string;
  readonly bar?: string;
  readonly json?: boolean;
}

export const explain: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("explain")
      .description("can A reach the memory of B, by which route, why not, what fixes it")
      .argument("<A>", "the function that issues the DMA, for example 1a:00.0")
      .argument("<B>", "the function that has the memory")
      .requiredOption("-m, --machine <file...>", "dumps of the machine; - is standard input")
      .option("--direction <way>", "write (A writes to B), read, or both (the default)")
      .option("--bar <number>", "which BAR of B; the largest when not given")
      .option("--json", "as JSON")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            [
              "explain 1a:00.0 19:00.0 -m lspci.txt",
              "may the NIC 1a:00.0 reach the memory of 19:00.0",
            ],
            [
              "explain 1a:00.0 3b:00.0 -m lspci.txt --kernel 5.15",
              "the same for another pair, had the machine Linux 5.15",
            ],
            [
              "explain 1a:00.0 19:00.0 -m lspci.txt --set-acs 17:01.0=0x1d --json",
              "as JSON, with ACS of a port set to SV RR CR UF",
            ],
          ],
          exit:
            "0 the kernel permits it, requests arrive, and it is not known to fail " +
            "(`usable` of --json); 1 one of the three is a no",
          notes: ["An answer that depends on what the dump does not tell is marked with ?."],
        }),
      );
    addWhatIf(command).action((a: string, b: string, options: Options) =>
      run(async () => {
        const [initiator, owner] = [parseBdf(a), parseBdf(b)];
        const direction = directionOf(options.direction);
        const bar = barOf(options.bar);
        const { machine, changes, nameOf } = await loadSubject(context, options.machine, options);
        const explanation = explainPair(machine, nameOf(initiator), nameOf(owner), {
          direction,
          bar,
          rules: options.rules,
        });
        if (options.json === true) printJson(context, explanationJson(explanation));
        else {
          printChanges(context, changes);
          printText(
            context,
            renderExplanation(explanation, context.paint, terminalColumns(context)),
          );
        }
        return explanation.answer.usable ? ExitStatus.ok : ExitStatus.failure;
      }),
    );
  },
};

function directionOf(text: string | undefined) {
  if (text === undefined || text === "both") return "both";
  if (text === "write" || text === "read") return text;
  throw new UsageError("bad-direction", `"${text}" is no direction`, {
    remedy: "write --direction write, read or both",
  });
}

function barOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[0-5]$/.test(text)) return Number(text);
  throw new UsageError("bad-bar", `"${text}" is no BAR`, { remedy: "write --bar 0 to --bar 5" });
}
