/**
 * `peerlane target`: serves namespaces by NVMe/TCP until it is interrupted. One line per event on
 * standard error, as `time event key=value ...`, so that a program can read it too.
 */

import { ExitStatus, formatBdf, formatBytes, parseBdf } from "../../core/index.ts";
import { formatAddress, realNetwork } from "../../platform/index.ts";
import {
  parseListen,
  parseNamespace,
  type ServedNamespace,
  TargetServer,
} from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printText } from "../context.ts";
import { loadMachine } from "../machine-input.ts";

interface Options {
  readonly listen: string;
  readonly machine?: string[];
  readonly ssd?: string;
  readonly namespace: readonly string[];
  readonly nqn: string;
  readonly allowHost?: readonly string[];
}

const DEFAULT_NQN = "nqn.2026-11.dev.peerlane:target";
const DEFAULT_NAMESPACE = "size=1G";
/** The machine that ships with Peerlane. */
const SHIPPED_MACHINE = "scenarios/machines/hgx-h100-gpud.vvv.txt";

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

export const target: CommandModule = {
  register(program, perform, context) {
    program
      .command("target")
      .description("serve namespaces by NVMe/TCP on real sockets, from a simulated machine's SSD")
      .option("-l, --listen <address>", "where to listen", "127.0.0.1:4420")
      .option("-m, --machine <file...>", "dumps of the machine (default: one that ships)")
      .option("--ssd <function>", "the NVMe controller of the machine (default: the first)")
      .option("-n, --namespace <spec>", "size=1G[,file=PATH]; repeats (default: size=1G)", collect)
      .option("--nqn <name>", "name of the subsystem", DEFAULT_NQN)
      .option("--allow-host <nqn>", "a host that may connect; repeats (default: any)", collect)
      .action((options: Options) => perform(() => serve(context, options)));
  },
};

async function serve(context: Context, options: Options): Promise<number> {
  const { clock, host } = context;
  const { address, port } = parseListen(options.listen);
  const namespaces = (options.namespace ?? [DEFAULT_NAMESPACE]).map(parseNamespace);
  const dumps = options.machine ?? [`${context.shipped}/${SHIPPED_MACHINE}`];
  const machine = await loadMachine(context, dumps);
  const log = (event: string, fields: Record<string, string>): void => {
    const time = new Date(clock.wallMs()).toISOString();
    const pairs = Object.entries(fields).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
    host.stderr.write(`${[time, event, ...pairs].join(" ")}\n`);
  };
  let failure: unknown = null;
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const forget = host.onInterrupt(() => stop());
  try {
    const server = await TargetServer.open({
      machine,
      ...(options.ssd === undefined ? {} : { ssd: parseBdf(options.ssd) }),
      address,
      port,
      nqn: options.nqn,
      allowedHosts: options.allowHost ?? [],
      namespaces,
      network: realNetwork,
      clock,
      onEvent: ({ what, peer, reason }) => log(what, { peer, ...(reason ? { reason } : {}) }),
      onError: (error) => {
        failure = error;
        stop();
      },
    });
    printOffer(context, server, options.nqn, namespaces);
    await stopped;
    log("stopping", {});
    await server.close();
  } finally {
    forget();
  }
  if (failure !== null) throw failure;
  return ExitStatus.ok;
}

/** What there is, and how to connect. */
function printOffer(
  context: Context,
  server: TargetServer,
  nqn: string,
  namespaces: readonly ServedNamespace[],
): void {
  const { address, port, ssd } = server;
  const at = formatAddress(address, port);
  const lines = [
    `listening on ${at} (NVMe/TCP), subsystem ${nqn}`,
    ...namespaces.map(({ sizeBytes, file }, i) => {
      const where = file === null ? "memory: gone when this ends" : file;
      return `namespace ${i + 1}: ${formatBytes(sizeBytes)}, ${where}`;
    }),
    `SSD ${formatBdf(ssd.bdf)} of the simulated machine; data through host memory, since over ` +
      "TCP the CPU moves it",
    `connect: nvme connect -t tcp -a ${address} -s ${port} -n ${nqn}`,
  ];
  printText(context, lines.join("\n"));
}
