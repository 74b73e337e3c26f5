/** `peerlane find --clients A,B,... -m FILE...`: the best provider of peer memory for them. */

import { type Bdf, ExitStatus, parseBdf, UsageError } from "../../core/index.ts";
import { findJson, findProvider, renderFind } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { addWhatIf, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly clients: string;
  readonly providers?: string;
  readonly machine: string[];
  readonly likeLinux?: boolean;
  readonly seed?: string;
  readonly json?: boolean;
}

export const find: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("find")
      .description("the best peer memory for a set of devices, and why the others lost")
      .requiredOption("--clients <functions>", "who issues the DMA, as 1a:00.0,18:00.0")
      .requiredOption("-m, --machine <file...>", "dumps of the machine; - is standard input")
      .option("--providers <functions>", "candidates; all that have memory when not given")
      .option("--like-linux", "choose as Linux does: by distance alone, ties at random")
      .option("--seed <number>", "which of the ties --like-linux draws (0)")
      .option("--json", "as JSON")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            [
              "find --clients 1a:00.0,18:00.0 -m lspci.txt",
              "the best memory for a NIC and an SSD together",
            ],
            ["find --clients 1a:00.0 --providers 19:00.0,3b:00.0 -m lspci.txt", "of these two"],
          ],
          exit: "0 there is one; 1 no candidate is reached by all of them",
        }),
      );
    addWhatIf(command).action((options: Options) =>
      run(async () => {
        const clients = functionsOf(options.clients);
        const providers = options.providers === undefined ? null : functionsOf(options.providers);
        const seed = seedOf(options);
        const { machine, changes, nameOf } = await loadSubject(context, options.machine, options);
        const report = findProvider(machine, clients.map(nameOf), {
          providers: providers?.map(nameOf),
          rules: options.rules,
          likeLinuxSeed: seed,
        });
        if (options.json === true) printJson(context, findJson(report));
        else {
          printChanges(context, changes);
          printText(context, renderFind(report, context.paint, terminalColumns(context)));
        }
        return report.chosen === null ? ExitStatus.failure : ExitStatus.ok;
      }),
    );
  },
};

function functionsOf(text: string): Bdf[] {
  const names = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  if (names.length > 0) return [...new Set(names.map(parseBdf))];
  throw new UsageError("no-function", "no function was named", {
    remedy: "write them with commas between, as 1a:00.0,18:00.0",
  });
}

function seedOf({ likeLinux, seed }: Options): number | undefined {
  if (seed !== undefined && !/^\d{1,10}$/.test(seed)) {
    throw new UsageError("bad-seed", `"${seed}" is no seed`, { remedy: "write --seed 1" });
  }
  if (seed !== undefined && likeLinux !== true) {
    throw new UsageError("bad-seed", "--seed draws ties, and only --like-linux has ties", {
      remedy: "add --like-linux, or leave --seed out",
    });
  }
  return likeLinux === true ? Number(seed ?? 0) : undefined;
}
