/**
 * The program behind the command line, with everything injected, so that tests run it in process.
 */

import { Command, CommanderError } from "commander";
import { ExitStatus, UsageError } from "../core/index.ts";
import { type CommandEntry, commandsFor } from "./command.ts";
import { type Context, printError } from "./context.ts";
import { VERSION } from "./version.ts";

const ABOUT =
  "Peer-to-peer DMA between SSD, NIC and GPU: can A reach B, by which route, why not, what fixes " +
  "it; and the whole I/O stack on a fabric simulated from a machine's own dump.";

const START = `Start here:
  lspci -vvv -xxxx > lspci.txt                   as root, else ACS is hidden
  peerlane topo lspci.txt                        what is where
  peerlane explain 1a:00.0 19:00.0 -m lspci.txt  may they, why not, what fixes it
  peerlane matrix lspci.txt                      the same for all pairs
  peerlane doctor lspci.txt                      GPUDirect, NVMe-oF, VFIO: ready?
  peerlane demo                                  no dump at hand: see it run
`;

const EXIT = `
Exit status: 0 done, 1 failed or refused, 2 wrong usage. Every command has
--help; nearly all have --json.`;

/** Runs the arguments of `context.host` with these commands; returns the exit status. */
export async function runProgram(
  context: Context,
  commands: readonly CommandEntry[],
): Promise<number> {
  const { host } = context;
  const json = host.args.includes("--json");
  let status: number = ExitStatus.ok;
  const run = async (action: () => Promise<number>): Promise<void> => {
    status = await action();
  };
  const program = new Command("peerlane")
    .description(ABOUT)
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError("(--help shows how it is used)")
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      writeErr: (text) => host.stderr.write(text),
      getOutHelpWidth: () => Math.min(host.stdout.columns, 110),
    })
    .addHelpText("before", START)
    .addHelpText("after", EXIT);
  const entries = commandsFor(host.args, commands);
  const modules = await Promise.all(entries.map(({ load }) => load()));
  modules.forEach((module, i) => {
    module.register(program, run, context);
    program.commands.at(-1)?.helpGroup(entries[i].group);
  });
  // Subcommands made above inherit neither setting from commander once they exist.
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program);
  try {
    await program.parseAsync([...host.args], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitStatus.ok;
      // The text is on standard error already; a program gets its one document.
      const remedy = "peerlane COMMAND --help shows how it is used";
      const usage = new UsageError("usage", error.message, { remedy });
      return json ? printError(context, usage, json) : ExitStatus.usage;
    }
    return printError(context, error, json);
  }
  return status;
}
