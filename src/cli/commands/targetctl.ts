/**
 * `peerlane targetctl`: asks a running `peerlane target`, or changes it, through its control
 * socket. One word or two name the method (`status`, `namespace add`), `key=value` its parameters.
 */

import { ExitStatus, formatTree, type Tree, UsageError } from "../../core/index.ts";
import { realLocalSockets } from "../../platform/index.ts";
import { CONTROL_METHODS, callTarget, parseParameters } from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printJson, printText } from "../context.ts";

interface Options {
  readonly socket?: string;
  readonly json?: boolean;
}

const SOCKET_VARIABLE = "PEERLANE_CONTROL";

function help(): string {
  const rows = CONTROL_METHODS.map(({ name, about, params }) => {
    const keys = Object.entries(params.shape).map(([key, field]) =>
      field.safeParse(undefined).success ? `[${key}=]` : `${key}=`,
    );
    return `  ${name.replace(".", " ")} ${keys.join(" ")}\n      ${about}`;
  });
  return `\nWhat it does:\n${rows.join("\n")}\n
Values are YAML: namespaces=[{nsid: 1, size: 1G}]. The socket is what
\`peerlane target --control\` was given, or ${SOCKET_VARIABLE} in the environment.`;
}

export const targetctl: CommandModule = {
  register(program, perform, context) {
    program
      .command("targetctl")
      .description("ask or change a running target")
      .argument("<words...>", "what to do, and key=value parameters")
      .option("-s, --socket <path>", `control socket (default: ${SOCKET_VARIABLE})`)
      .option("--json", "print the answer as JSON")
      .addHelpText("after", help)
      .action((words: string[], options: Options) => perform(() => run(context, words, options)));
  },
};

async function run(context: Context, words: string[], options: Options): Promise<number> {
  const { clock, host } = context;
  const path = options.socket ?? host.env(SOCKET_VARIABLE);
  if (path === undefined) {
    throw new UsageError("no-socket", "no control socket was given", {
      remedy: "add --socket PATH, the path that `peerlane target --control` was given",
    });
  }
  const first = words.findIndex((word) => word.includes("="));
  const verbs = first < 0 ? words : words.slice(0, first);
  const method = verbs.join(".");
  if (!CONTROL_METHODS.some(({ name }) => name === method)) {
    throw new UsageError("no-such-method", `targetctl knows no "${verbs.join(" ")}"`, {
      remedy: "peerlane targetctl --help lists what it does",
    });
  }
  const params = parseParameters(first < 0 ? [] : words.slice(first));
  const result = await callTarget(realLocalSockets, clock, path, method, params);
  if (options.json === true) printJson(context, result);
  else if (method === "save") printText(context, String((result as { yaml: unknown }).yaml));
  else if (result === null) printText(context, "done");
  else printText(context, formatTree(result as Tree));
  return ExitStatus.ok;
}
