/** `peerlane connect`: uses a remote NVMe/TCP subsystem from this process. */

import { ExitStatus, formatBytes, hexDigits, type Tree, UsageError } from "../../core/index.ts";
import { parseDhchapKey, parseTlsKey } from "../../nvmet/index.ts";
import {
  type Network,
  readSecretFile,
  realNetwork,
  realRandom,
  realRecordFiles,
  type StreamAddress,
  tryParseAddress,
} from "../../platform/index.ts";
import {
  type BenchResult,
  Capture,
  captureOf,
  discover,
  type RemoteOptions,
  RemoteSubsystem,
} from "../../scenario/index.ts";
import { DISCOVERY_NQN, NVMF_PORT } from "../../spec/nvmf/index.ts";
import type { CommandModule } from "../command.ts";
import { type Context, printJson, printText } from "../context.ts";

interface Options {
  readonly nqn?: string;
  readonly hostnqn: string;
  readonly path?: readonly string[];
  readonly tlsKey?: string;
  readonly tlsIdentity: string;
  readonly dhchapSecret?: string;
  readonly dhchapCtrlSecret?: string;
  readonly hdrDigest?: boolean;
  readonly dataDigest?: boolean;
  readonly namespace: string;
  readonly lba: string;
  readonly blocks: string;
  readonly out?: string;
  readonly destroyData?: boolean;
  readonly blockSize: string;
  readonly depth: string;
  readonly seconds: string;
  readonly capture?: string;
  readonly captureLimit?: string;
  readonly json?: boolean;
}

const HOST_NQN = "nqn.2026-11.dev.peerlane:host";
const ACTIONS = ["info", "discover", "read", "verify", "bench"] as const;
type Action = (typeof ACTIONS)[number];

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

export const connect: CommandModule = {
  register(program, perform, context) {
    program
      .command("connect")
      .argument("<address>", "tcp://127.0.0.1:4420")
      .argument("[action]", ACTIONS.join(", "), "info")
      .description("use a remote NVMe/TCP subsystem: what it has, its blocks, how fast they come")
      .option("--nqn <name>", "the subsystem (not for discover)")
      .option("--hostnqn <name>", "name of this host", HOST_NQN)
      .option("--path <address>", "another path to the same subsystem; repeats", collect)
      .option("--tls-key <key>", "TLS 1.3 with this PSK: NVMeTLSkey-1:..., or @file")
      .option("--tls-identity <version>", "identity version of the PSK, 0 or 1", "1")
      .option("--dhchap-secret <key>", "this host's key: DHHC-1:..., or @file")
      .option("--dhchap-ctrl-secret <key>", "the controller's key, or @file")
      .option("--hdr-digest", "header digests")
      .option("--data-digest", "data digests")
      .option("-n, --namespace <nsid>", "for read, verify and bench", "1")
      .option("--lba <block>", "first block to read or verify", "0")
      .option("--blocks <count>", "blocks to read or verify", "1")
      .option("-o, --out <file>", "where to write what was read (default: a hex dump)")
      .option("--destroy-data", "verify overwrites the blocks: say that they may go")
      .option("--block-size <bytes>", "of one read of bench", "4096")
      .option("--depth <count>", "reads in flight of bench", "32")
      .option("--seconds <count>", "how long bench runs", "5")
      .option("--capture <file>", "record the connections as pcapng, for Wireshark")
      .option("--capture-limit <size>", "size of that file at which it stops (default: 1G)")
      .option("--json", "JSON output")
      .action((address: string, action: string, options: Options) =>
        perform(() => run(context, address, action, options)),
      );
  },
};

/** `tcp://host:port`, `host:port`, `[::1]:port`, `host`. Throws `bad-address`. */
function parseAddress(text: string): StreamAddress {
  const bare = text.replace(/^tcp:\/\//, "");
  // A slash would be the path of some other URL.
  const at = bare.includes("/") ? null : tryParseAddress(bare, NVMF_PORT);
  if (at !== null) return at;
  throw new UsageError("bad-address", `"${text}" is no address of a target`, {
    remedy: "write tcp://127.0.0.1:4420 or tcp://[::1]:4420",
  });
}

/** A whole number of an option, in its bounds. Throws `bad-option`. */
function whole(name: string, text: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  throw new UsageError("bad-option", `--${name} ${text} is not possible`, {
    remedy: `use ${low} to ${high}`,
  });
}

/** A key, given itself or as @file. */
async function keyText(text: string): Promise<{ text: string; place: string }> {
  if (!text.startsWith("@")) return { text, place: "the command line" };
  return { text: await readSecretFile(text.slice(1)), place: text.slice(1) };
}

async function remoteOptions(
  context: Context,
  address: string,
  subsystemNqn: string,
  options: Options,
  network: Network,
): Promise<RemoteOptions> {
  const { tlsKey, dhchapSecret, dhchapCtrlSecret } = options;
  const tls = tlsKey === undefined ? null : await keyText(tlsKey);
  const key = dhchapSecret === undefined ? null : await keyText(dhchapSecret);
  const ctrl = dhchapCtrlSecret === undefined ? null : await keyText(dhchapCtrlSecret);
  if (ctrl !== null && key === null) {
    throw new UsageError("bad-option", "--dhchap-ctrl-secret needs --dhchap-secret", {
      remedy: "give both keys",
    });
  }
  return {
    addresses: [address, ...(options.path ?? [])].map(parseAddress),
    subsystemNqn,
    hostNqn: options.hostnqn,
    network,
    clock: context.clock,
    headerDigest: options.hdrDigest === true,
    dataDigest: options.dataDigest === true,
    depth: whole("depth", options.depth, 1, 1023) + 1,
    tlsIdentity: whole("tls-identity", options.tlsIdentity, 0, 1) as 0 | 1,
    ...(tls === null ? {} : { tlsKey: parseTlsKey(tls.text, tls.place) }),
    ...(key === null
      ? {}
      : {
          credentials: {
            key: parseDhchapKey(key.text, key.place),
            ...(ctrl === null ? {} : { ctrlKey: parseDhchapKey(ctrl.text, ctrl.place) }),
            random: realRandom,
          },
        }),
  };
}

async function run(
  context: Context,
  address: string,
  actionText: string,
  options: Options,
): Promise<number> {
  const action = ACTIONS.find((each) => each === actionText);
  if (action === undefined) {
    throw new UsageError("bad-option", `"${actionText}" is nothing that connect does`, {
      remedy: `use one of ${ACTIONS.join(", ")}`,
    });
  }
  const nqn = action === "discover" ? DISCOVERY_NQN : options.nqn;
  if (nqn === undefined) {
    throw new UsageError("bad-option", "--nqn is missing", {
      remedy: `find the name with: peerlane connect ${address} discover`,
    });
  }
  const capture = startCapture(context, options);
  const network = capture?.around(realNetwork) ?? realNetwork;
  try {
    const remote = await remoteOptions(context, address, nqn, options, network);
    if (action === "discover") return await showDiscovery(context, remote, options.json === true);
    const subsystem = await RemoteSubsystem.open(remote);
    try {
      return await use(context, subsystem, action, options);
    } finally {
      await subsystem.close();
    }
  } finally {
    capture?.close();
  }
}

/** Null: none was asked for. */
function startCapture({ clock, host }: Context, options: Options): Capture | null {
  const settings = captureOf(options);
  if (settings === undefined) return null;
  const capture = new Capture({
    files: realRecordFiles,
    clock,
    onEvent: ({ isUnasked, reason }) => {
      if (isUnasked) host.stderr.write(`peerlane: note: the capture stopped: ${reason}\n`);
    },
  });
  capture.start(settings);
  return capture;
}

async function showDiscovery(context: Context, remote: RemoteOptions, json: boolean) {
  const entries = await discover(remote);
  if (json) printJson(context, entries);
  else {
    for (const { address, serviceId, subsystemNqn, tcpSecurity = 0 } of entries) {
      const tls = tcpSecurity === 0 ? "" : ", TLS";
      printText(context, `${address}:${serviceId}  ${subsystemNqn}${tls}`);
    }
  }
  return ExitStatus.ok;
}

async function use(
  context: Context,
  subsystem: RemoteSubsystem,
  action: Exclude<Action, "discover">,
  options: Options,
): Promise<number> {
  const nsid = whole("namespace", options.namespace, 1, 0xfffffffe);
  if (action === "info") {
    const info = subsystem.info();
    if (options.json === true) printJson(context, info);
    else printText(context, infoText(subsystem, info));
    return ExitStatus.ok;
  }
  const lba = whole("lba", options.lba, 0, Number.MAX_SAFE_INTEGER);
  const blocks = whole("blocks", options.blocks, 1, 1 << 17);
  if (action === "verify") return verify(context, subsystem, { nsid, lba, blocks }, options);
  if (action === "read") {
    const bytes = await subsystem.read(nsid, lba, blocks);
    if (options.out === undefined) printText(context, hexDump(bytes));
    else await context.files.write(options.out, bytes);
    return ExitStatus.ok;
  }
  const result = await subsystem.bench({
    nsid,
    blockSize: whole("block-size", options.blockSize, 512, 1 << 20),
    depth: whole("depth", options.depth, 1, 1023),
    seconds: whole("seconds", options.seconds, 1, 3600),
    seed: 1,
  });
  if (options.json === true) printJson(context, result);
  else printText(context, benchText(result));
  return result.errors === 0 ? ExitStatus.ok : ExitStatus.failure;
}

async function verify(
  context: Context,
  subsystem: RemoteSubsystem,
  { nsid, lba, blocks }: { nsid: number; lba: number; blocks: number },
  options: Options,
): Promise<number> {
  if (options.destroyData !== true) {
    throw new UsageError("data-would-go", `verify overwrites ${blocks} blocks from ${lba} on`, {
      remedy: "add --destroy-data when nothing in them is needed",
    });
  }
  const seed = context.clock.wallMs() % 2 ** 32;
  const wrong = await subsystem.verify(nsid, lba, blocks, seed);
  const isGood = wrong < 0;
  const text = isGood
    ? `${blocks} blocks written, flushed and read back: the same`
    : `byte ${wrong} came back different`;
  if (options.json === true) printJson(context, { nsid, lba, blocks, isGood, firstWrong: wrong });
  else printText(context, text);
  return isGood ? ExitStatus.ok : ExitStatus.failure;
}

function infoText(subsystem: RemoteSubsystem, info: Tree): string {
  const { model, serial, paths } = info as unknown as {
    model: string;
    serial: string;
    paths: { name: string; state: string; lastError: string | null }[];
  };
  return [
    `${model}, serial ${serial}`,
    ...paths.map(({ name, state, lastError }) => {
      return `path ${name}: ${state}${lastError === null ? "" : ` (${lastError})`}`;
    }),
    ...subsystem.namespaces.map(({ nsid, blocks, blockBytes }) => {
      return `namespace ${nsid}: ${formatBytes(blocks * blockBytes)}, blocks of ${blockBytes}`;
    }),
  ].join("\n");
}

function benchText(result: BenchResult): string {
  const { p50, p99, max } = result.latencyUs;
  return [
    `${Math.round(result.iosPerSecond)} reads a second, ${formatBytes(result.bytesPerSecond)}/s`,
    `latency: half within ${Math.round(p50)} us, 99 % within ${Math.round(p99)} us, ` +
      `longest ${Math.round(max)} us`,
    `${result.ios} reads in ${result.seconds.toFixed(2)} s, ${result.errors} failed`,
  ].join("\n");
}

const ROW = 16;

function hexDump(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += ROW) {
    const row = [...bytes.subarray(at, at + ROW)];
    const hex = row.map((byte) => hexDigits(byte, 2)).join(" ");
    rows.push(`${hexDigits(at, 8)}  ${hex}`);
  }
  return rows.join("\n");
}
