/**
 * The command line: `peerlane COMMAND`. A file per command under commands/; this one only wires
 * them up and turns errors into messages and exit statuses (2 for usage, 1 for failure).
 */

import { realClock, realFiles, realHost } from "../platform/index.ts";
import { makeContext } from "./context.ts";
import { runCli } from "./run-cli.ts";

const host = realHost();
// The bundle lies in dist/, one folder below what ships with it.
const shipped = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
host.setExitCode(await runCli(makeContext(host, realFiles, realClock, shipped)));
