/** `peerlane explain A B -m FILE...`: can A reach the memory of B, by which route, why not. */

import { ExitStatus, parseBdf, UsageError } from "../../core/index.ts";
import { parseKernelVersion } from "../../p2p/index.ts";
import { explainPair, explanationJson, renderExplanation } from "../../planner/index.ts";
import type { CommandModule } from "../command.ts";
import { printJson, printText } from "../context.ts";
import { loadMachine } from "../machine-input.ts";
import { makePaint } from "../paint.ts";

const IOMMU_MODES = {
  off: "off",
  pt: "passthrough",
  passthrough: "passthrough",
  strict: "strict",
} as const;

interface Options {
  readonly machine: string[];
  readonly kernel?: string;
  readonly iommu?: string;
  readonly json?: boolean;
}

export const explain: CommandModule = {
  register(program, run, context) {
    program
      .command("explain")
      .description("can A reach the memory of B, by which route, why not, what fixes it")
      .argument("<A>", "the function that issues the DMA, for example 1a:00.0")
      .argument("<B>", "the function that has the memory")
      .requiredOption("-m, --machine <file...>", "dumps of the machine; - is standard input")
      .option("--kernel <version>", "rules of this Linux version, or latest")
      .option("--iommu <mode>", "off, pt or strict")
      .option("--json", "as JSON")
      .action((a: string, b: string, options: Options) =>
        run(async () => {
          const [initiator, owner] = [parseBdf(a), parseBdf(b)];
          const settings = { kernel: kernelOf(options.kernel), iommu: iommuOf(options.iommu) };
          const machine = await loadMachine(context, options.machine);
          const explanation = explainPair(machine, initiator, owner, settings);
          if (options.json === true) printJson(context, explanationJson(explanation));
          else printText(context, renderExplanation(explanation, makePaint(context.colors)));
          return explanation.permitted.route === "none" ? ExitStatus.failure : ExitStatus.ok;
        }),
      );
  },
};

function kernelOf(text: string | undefined) {
  if (text === undefined || text === "latest") return undefined;
  const version = parseKernelVersion(text);
  if (version !== null) return version;
  throw new UsageError("bad-kernel", `"${text}" is no kernel version`, {
    remedy: "write --kernel 6.12, or --kernel latest",
  });
}

function iommuOf(text: string | undefined) {
  if (text === undefined) return undefined;
  const mode = IOMMU_MODES[text as keyof typeof IOMMU_MODES];
  if (mode !== undefined) return mode;
  throw new UsageError("bad-iommu", `"${text}" is no IOMMU mode`, {
    remedy: "write --iommu off, --iommu pt or --iommu strict",
  });
}
