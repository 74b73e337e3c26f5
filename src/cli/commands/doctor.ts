/** `peerlane doctor [--for USE] FILE...`: an ordered preflight, the first failing check on top. */

import { ExitStatus, UsageError } from "../../core/index.ts";
import { doctorJson, examine, renderDoctor, USES, type Use } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printChanges, printJson, printText, terminalColumns } from "../context.ts";
import { helpTail } from "../help-text.ts";
import { addWhatIf, givenText, loadSubject, type WhatIfOptions } from "../what-if-options.ts";

interface Options extends WhatIfOptions {
  readonly for?: string;
  readonly json?: boolean;
}

export const doctor: CommandModule = {
  register(program, run, context) {
    const command = program
      .command("doctor")
      .description("what stands in the way of a use, the first failing check on top")
      .argument("<file...>", "dumps of the machine; - is standard input")
      .option("--for <use>", `one of ${USES.join(", ")}; all when not given`)
      .option("--json", "as JSON")
      .addHelpText(
        "after",
        helpTail({
          examples: [
            ["doctor lspci.txt", "all four uses"],
            [
              "doctor --for gds machine.json",
              "GPUDirect Storage, from a capture, which tells the most",
            ],
            ["doctor --for gdr lspci.txt --kernel 6.8 --iommu pt", "with what lspci does not tell"],
          ],
          exit: "0 nothing fails (what is not known may); 1 something does",
          notes: [
            "gds: GPUDirect Storage. gdr: GPUDirect RDMA. nvmeof-cmb: an NVMe-oF target with a " +
              "CMB. vfio: devices for a virtual machine.",
          ],
        }),
      );
    addWhatIf(command).action((files: string[], options: Options) =>
      run(async () => {
        const uses = usesOf(options.for);
        const { machine, changes } = await loadSubject(context, files, options);
        const report = examine(machine, uses, options.rules, givenText(files, options));
        if (options.json === true) printJson(context, doctorJson(report));
        else {
          printChanges(context, changes);
          printText(context, renderDoctor(report, context.paint, terminalColumns(context)));
        }
        const hasFailed = report.uses.some(({ state }) => state === "fail");
        return hasFailed ? ExitStatus.failure : ExitStatus.ok;
      }),
    );
  },
};

function usesOf(text: string | undefined): readonly Use[] {
  if (text === undefined) return USES;
  const found = USES.find((use) => use === text);
  if (found !== undefined) return [found];
  throw new UsageError("bad-use", `there is no preflight for "${text}"`, {
    remedy: `name one of ${USES.join(", ")}`,
  });
}
