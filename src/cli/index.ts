/** The command line as a function, for tests and for whoever embeds it: everything is injected. */

export { type Context, makeContext } from "./context.ts";
export { runCli } from "./run-cli.ts";
