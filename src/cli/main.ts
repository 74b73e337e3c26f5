/**
 * The command line as a process: `peerlane COMMAND` on the real clock, files and terminal. What it
 * does with them is in program.ts.
 */

import { realClock, realFiles, realHost } from "../platform/index.ts";
import { makeContext } from "./context.ts";
import { runCli } from "./run-cli.ts";

const host = realHost();
// The bundle lies in dist/, one folder below what ships with it.
const shipped = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
host.setExitCode(await runCli(makeContext(host, realFiles, realClock, shipped)));
