/**
 * `peerlane target`: serves namespaces by NVMe/TCP until it is interrupted. One line per event on
 * standard error, as `time event key=value ...`, so that a program can read it too.
 */

import { ExitStatus, formatBdf, formatBytes, parseSize, UsageError } from "../../core/index.ts";
import {
  checkSecretFile,
  formatAddress,
  realLocalSockets,
  realNetwork,
  realRecordFiles,
} from "../../platform/index.ts";
import {
  formatTargetConfig,
  hasSecrets,
  parseListen,
  parseNamespace,
  parseTargetConfig,
  plainTargetConfig,
  simpleConfig,
  type TargetConfig,
  type TargetServer,
  TargetService,
  withOptions,
} from "../../scenario/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printJson, printNotes, printText } from "../context.ts";
import { loadMachineOrShipped } from "../machine-input.ts";

interface Options {
  readonly config?: string;
  readonly printConfig?: boolean;
  readonly listen?: readonly string[];
  readonly machine?: string[];
  readonly ssd?: string;
  readonly namespace?: readonly string[];
  readonly nqn?: string;
  readonly allowHost?: readonly string[];
  readonly provider?: string;
  readonly providerPolicy?: string;
  readonly cmb?: string;
  readonly control?: string;
  readonly metrics?: string;
  readonly capture?: string;
  readonly captureLimit?: string;
  readonly logFormat?: string;
  readonly logLevel?: string;
  readonly json?: boolean;
}

const DEFAULT_NQN = "nqn.2026-11.dev.peerlane:target";
const DEFAULT_NAMESPACE = "size=1G";
const DEFAULT_LISTEN = "127.0.0.1:4420";
const CONFIG_BYTES_MAX = 16 * 1024 * 1024;
/** What a configuration file says, and options therefore must not. */
const SIMPLE = [
  "listen",
  "namespace",
  "nqn",
  "allowHost",
  "provider",
  "providerPolicy",
  "cmb",
] as const;

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

export const target: CommandModule = {
  register(program, perform, context) {
    program
      .command("target")
      .description("serve namespaces by NVMe/TCP on real sockets, from a simulated machine's SSD")
      .option("-c, --config <file>", "YAML configuration, or the JSON of nvmetcli")
      .option("--print-config", "print the whole configuration as YAML and end")
      .option("-l, --listen <address>", `repeats (default: ${DEFAULT_LISTEN})`, collect)
      .option("-m, --machine <file...>", "dumps of the machine (default: one that ships)")
      .option("--ssd <function>", "the NVMe controller of the machine (default: the first)")
      .option(
        "-n, --namespace <spec>",
        "size=1G[,file=PATH][,ro][,block=4096][,backend=cpu]; repeats (default: size=1G)",
        collect,
      )
      .option("--nqn <name>", `name of the subsystem (default: ${DEFAULT_NQN})`)
      .option("--allow-host <nqn>", "a host that may connect; repeats (default: any)", collect)
      .option("--provider <which>", "stages payload: auto, none, a function (default: none)")
      .option("--provider-policy <what>", "without peer memory: fail or host-memory (fail)")
      .option("--cmb <size>", "give the SSD a Controller Memory Buffer, which can be a provider")
      .option("--control <path>", "control socket for peerlane targetctl (default: none)")
      .option("--metrics <address>", "serves Prometheus metrics there (default: nowhere)")
      .option("--capture <file>", "record connections as pcapng, for Wireshark (default: no)")
      .option("--capture-limit <size>", "size of that file at which it stops (default: 1G)")
      .option("--log-format <format>", "text or json (default: text)")
      .option("--log-level <level>", "error, warn, info or debug (default: info)")
      .option("--json", "with --print-config: JSON instead of YAML")
      .action((options: Options) => perform(() => run(context, options)));
  },
};

async function run(context: Context, options: Options): Promise<number> {
  const config = await readConfig(context, options);
  if (options.printConfig !== true) return serve(context, config);
  if (options.json === true) printJson(context, plainTargetConfig(config));
  else printText(context, formatTargetConfig(config));
  return ExitStatus.ok;
}

/** The configuration file, or what the options of the simple case stand for. */
async function readConfig(context: Context, options: Options): Promise<TargetConfig> {
  const { config: file } = options;
  if (file === undefined) {
    const simple = simpleConfig({
      listen: (options.listen ?? [DEFAULT_LISTEN]).map(parseListen),
      nqn: options.nqn ?? DEFAULT_NQN,
      allowedHosts: options.allowHost ?? [],
      namespaces: (options.namespace ?? [DEFAULT_NAMESPACE]).map(parseNamespace),
      ...providerOf(options),
    });
    return withOptions(simple, options);
  }
  const extra = SIMPLE.find((name) => options[name] !== undefined);
  if (extra !== undefined) {
    const option = `--${extra.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw new UsageError("two-sources", `${option} and --config cannot be used together`, {
      remedy: `write it into ${file}`,
    });
  }
  const text = await context.files.readText(file, CONFIG_BYTES_MAX);
  const { config, notes } = parseTargetConfig(text, file);
  printNotes(context, notes);
  if (hasSecrets(config)) await checkSecretFile(file);
  return withOptions(config, options);
}

function providerOf({ provider, providerPolicy, cmb }: Options) {
  const cmbBytes = cmb === undefined ? undefined : parseSize(cmb);
  if (cmbBytes === null) {
    throw new UsageError("bad-option", `"${cmb}" is no size`, { remedy: "write --cmb 64M" });
  }
  return {
    ...(provider === undefined ? {} : { provider }),
    ...(providerPolicy === undefined ? {} : { policy: providerPolicy }),
    ...(cmbBytes === undefined ? {} : { cmbBytes }),
  };
}

async function serve(context: Context, config: TargetConfig): Promise<number> {
  const { clock, host } = context;
  const machine = await loadMachineOrShipped(context, config.machine);
  let failure: unknown = null;
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const forget = host.onInterrupt(() => stop());
  try {
    const service = await TargetService.open({
      machine,
      config,
      network: realNetwork,
      localSockets: realLocalSockets,
      recordFiles: realRecordFiles,
      clock,
      write: (text) => host.stderr.write(text),
      onError: (error) => {
        failure = error;
        stop();
      },
    });
    printText(context, offer(service, config).join("\n"));
    warnOfTickets(context, config);
    await stopped;
    service.log.event("info", "stopping");
    await service.close();
    printText(context, summary(service.server).join("\n"));
  } finally {
    forget();
  }
  if (failure !== null) throw failure;
  return ExitStatus.ok;
}

/** In-kernel TLS of Linux hosts ends a connection over a session ticket. */
function warnOfTickets({ host, shipped }: Context, config: TargetConfig): void {
  const usesTls = config.ports.some(({ addr_tsas: security }) => security !== "none");
  if (!usesTls || host.env("OPENSSL_CONF") !== undefined) return;
  const file = `${shipped}/bin/openssl.cnf`;
  const why = "OpenSSL sends TLS session tickets, which in-kernel TLS of Linux hosts refuses";
  host.stderr.write(`peerlane: note: ${why}\n  try: OPENSSL_CONF=${file} peerlane target ...\n`);
}

/** What there is, and how to connect. */
function offer(service: TargetService, { control, capture }: TargetConfig): string[] {
  const { server, metricsAt } = service;
  const lines: string[] = [];
  for (const { at, config } of server.ports.values()) {
    const names = config.subsystems.join(", ") || "no subsystem";
    lines.push(`listening on ${formatAddress(at.address, at.port)} (NVMe/TCP), subsystem ${names}`);
  }
  const several = server.subsystems.size > 1;
  for (const { subsystem, namespaces } of server.subsystems.values()) {
    for (const served of namespaces.values()) {
      const { config: namespace, backend } = served;
      const where = namespace.device_path ?? "memory: gone when this ends";
      const of = several ? ` of ${subsystem.nqn}` : "";
      const what = `${formatBytes(backend.sizeBytes)}, ${where}`;
      const how = namespace.backend === "cpu" ? "no SSD" : `staged in ${server.staging(served)}`;
      lines.push(`namespace ${namespace.nsid}${of}: ${what}; ${how}`);
    }
  }
  lines.push(`SSD ${formatBdf(server.ssd.bdf)} of the simulated machine`, ...server.edits);
  for (const { at, config } of server.ports.values()) {
    const tls = config.addr_tsas === "none" ? "" : " --tls";
    for (const nqn of config.subsystems) {
      lines.push(`connect: nvme connect -t tcp -a ${at.address} -s ${at.port} -n ${nqn}${tls}`);
    }
  }
  if (control !== undefined) lines.push(`control: peerlane targetctl --socket ${control} status`);
  if (capture !== undefined) {
    lines.push(
      `capture: ${capture.path}, up to ${formatBytes(capture.max_bytes)}; it has users' data in it`,
    );
  }
  if (metricsAt !== null) {
    lines.push(`metrics: http://${formatAddress(metricsAt.address, metricsAt.port)}/metrics`);
  }
  return lines;
}

/** Which way payload took, and how often it was copied. */
function summary(server: TargetServer): string[] {
  const { bytes, net, hostMemoryBytes, ...copied } = server.payload();
  const ways = Object.entries(net).filter(([, count]) => count > 0);
  const staged = ways.map(([way, count]) => `${formatBytes(count)} ${STAGED[way] ?? `by ${way}`}`);
  return [
    `payload: ${formatBytes(bytes)}${staged.length > 0 ? `: ${staged.join(", ")}` : ""}`,
    `through host memory: ${formatBytes(hostMemoryBytes)}; copied in user space: ` +
      `${formatBytes(copied.copiedFromSockets)} from sockets, ` +
      `${formatBytes(copied.copiedToSockets)} to sockets (data of other commands included)`,
  ];
}

/** What staged payload, by the orchestrator's names. */
const STAGED: Readonly<Record<string, string>> = {
  cpu: "in a provider's memory",
  "host-memory": "in host buffers",
  capsule: "in capsules",
};
