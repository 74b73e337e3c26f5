/** `peerlane run SCENARIO`: runs a scenario file, on its own machine or on a dump that is given. */

import { ExitStatus, INPUT_FILE_BYTES_MAX } from "../../core/index.ts";
import type { AnyScenario, ScenarioReport } from "../../scenario/index.ts";
import {
  parseScenario,
  REPORT_VERSION,
  renderScenario,
  runScenario,
} from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printJson, printText } from "../context.ts";
import { loadMachine } from "../machine-input.ts";
import { startProgress } from "../progress.ts";
import { VERSION } from "../version.ts";

export const run: CommandModule = {
  register(program, perform, context) {
    program
      .command("run")
      .description(
        "run a scenario on a machine simulated from its dump: an NVMe-oF target, GPUDirect",
      )
      .argument("<scenario>", "a YAML file, for example scenarios/nvmet-rdma.yaml")
      .option("-m, --machine <file...>", "dumps of another machine to run it on")
      .option("--json", "the report as one JSON document")
      .action((file: string, options: { machine?: string[]; json?: boolean }) =>
        perform(async () => {
          const report = await runScenarioFile(context, file, options.machine);
          return printReports(context, [report], options.json === true);
        }),
      );
  },
};

/** Loads the scenario and its machine, runs it, with a bar on a terminal. */
export async function runScenarioFile(
  context: Context,
  file: string,
  dumps: readonly string[] | undefined,
): Promise<ScenarioReport> {
  const text = await context.files.readText(file, INPUT_FILE_BYTES_MAX);
  const written = parseScenario(text, file);
  const scenario = dumps === undefined ? written : forOtherMachine(written);
  const machine = await loadMachine(context, dumps ?? [besideFile(file, scenario.machine.file)]);
  const progress = startProgress(context);
  try {
    const { clock, host } = context;
    return await runScenario(machine, scenario, { clock, host, progress: progress.report });
  } finally {
    progress.stop();
  }
}

/** What a scenario says of its own machine (its CPU, the story it tells) is not so of another. */
function forOtherMachine<Kind extends AnyScenario>(scenario: Kind): Kind {
  return { ...scenario, about: "", machine: { ...scenario.machine, cpu: undefined } };
}

/** A path in a scenario file is relative to that file. */
function besideFile(file: string, path: string): string {
  if (path.startsWith("/")) return path;
  const slash = file.lastIndexOf("/");
  return slash < 0 ? path : `${file.slice(0, slash)}/${path}`;
}

/** Prints reports; 1 when one of them is not as it should be. */
export function printReports(
  context: Context,
  scenarios: readonly ScenarioReport[],
  json: boolean,
): number {
  if (json) {
    printJson(context, { version: REPORT_VERSION, peerlane: VERSION, scenarios });
  } else {
    const { paint, host } = context;
    const { columns } = host.stdout;
    for (const report of scenarios) {
      printText(context, `${renderScenario(report, { paint, columns })}\n`);
    }
  }
  return scenarios.every(({ ok }) => ok) ? ExitStatus.ok : ExitStatus.failure;
}
