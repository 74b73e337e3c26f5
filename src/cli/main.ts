/**
 * The command line: `peerlane COMMAND`. A file per command under commands/; this one only wires them
 * up and turns errors into messages and exit statuses (2 for usage, 1 for failure).
 */

import { realClock, realFiles, realHost } from "../platform/index.ts";
import { makeContext } from "./context.ts";
import { runCli } from "./program.ts";

const host = realHost();
host.setExitCode(await runCli(makeContext(host, realFiles, realClock)));
