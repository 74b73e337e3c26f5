/**
 * `peerlane demo` (`npm start`): the three scenarios that ship with Peerlane, one after another.
 */

import type { CommandModule } from "../command.ts";
import { printReports, runScenarioFile } from "./run.ts";

const SCENARIOS = ["nvmet-rdma.yaml", "nvmet-rdma-cmb.yaml", "nvmet-rdma-apart.yaml"];

export const demo: CommandModule = {
  register(program, perform, context) {
    program
      .command("demo")
      .description("NVMe-oF between NIC and SSD on a real HGX H100 server's topology, three ways")
      .option("--json", "all reports as one JSON document")
      .action((options: { json?: boolean }) =>
        perform(async () => {
          const reports = [];
          for (const name of SCENARIOS) {
            const path = `${context.shipped}/scenarios/${name}`;
            reports.push(await runScenarioFile(context, path, undefined));
          }
          return printReports(context, reports, options.json === true);
        }),
      );
  },
};
