/**
 * What the control socket can do, as one table: a name, a schema for its parameters, what it does.
 * Requests are JSON-RPC 2.0 (jsonrpc.org/specification); the table drives validation, the help of
 * `peerlane targetctl` and the guide.
 *
 * Changes run one after another and are complete when they are answered: a namespace that was
 * removed is closed, a port that was removed listens no more. Leaves out: batches, notifications.
 */

import { z } from "zod";
import { PeerlaneError, type Tree, UsageError } from "../../core/index.ts";
import type { Capture } from "../capture/capture.ts";
import type { TargetServer } from "../serve.ts";
import { formatTargetConfig, plainTargetConfig } from "./format.ts";
import {
  anaGroupSchema,
  captureSchema,
  hostSchema,
  LOG_LEVELS,
  namespaceSchema,
  nqn,
  portSchema,
  referralSchema,
  subsystemSchema,
} from "./schema.ts";
import { targetStatus } from "./status.ts";

/** What a method works on. */
export interface ControlContext {
  readonly server: TargetServer;
  readonly capture: Capture;
  setLogLevel(level: (typeof LOG_LEVELS)[number]): void;
  /** A method that is no question has been carried out. */
  changed(method: string): void;
}

const QUESTIONS = new Set(["status", "show", "save", "inspect", "capture.status"]);

export interface ControlMethod {
  readonly name: string;
  readonly about: string;
  readonly params: z.ZodObject;
  /** Throws what the change throws. */
  run(context: ControlContext, params: unknown): Promise<unknown> | unknown;
}

function method<S extends z.ZodObject>(
  name: string,
  about: string,
  params: S,
  run: (context: ControlContext, params: z.output<S>) => Promise<unknown> | unknown,
): ControlMethod {
  return { name, about, params, run: (context, given) => run(context, given as z.output<S>) };
}

const nothing = z.strictObject({});
const subsystem = { subsystem: nqn.describe("name of the subsystem") };
const { portid } = portSchema.shape;
const { nsid } = namespaceSchema.shape;
const ofNamespace = z.strictObject({ ...subsystem, nsid });
const ofHost = z.strictObject({ ...subsystem, host: nqn.describe("name of the host") });
const ofLink = z.strictObject({ portid, ...subsystem });

export const CONTROL_METHODS: readonly ControlMethod[] = [
  method("status", "who is connected, and what it does", nothing, ({ server }) =>
    targetStatus(server),
  ),
  method("show", "the configuration as it is now, without keys", nothing, ({ server }) => {
    const plain = plainTargetConfig(server.configuration);
    return { ...plain, ...(server.hosts.size === 0 ? {} : { hosts: hostsWithoutKeys(server) }) };
  }),
  method("save", "the configuration as YAML, with keys", nothing, ({ server }) => ({
    yaml: formatTargetConfig(server.configuration),
  })),
  method("inspect", "everything that the target knows of itself", nothing, ({ server }) =>
    server.inspect(),
  ),
  method(
    "subsystem.add",
    "adds a subsystem, with the keys of the configuration",
    subsystemSchema,
    ({ server }, params) => server.addSubsystem(params),
  ),
  method(
    "subsystem.remove",
    "ends its controllers and closes its namespaces",
    z.strictObject(subsystem),
    ({ server }, params) => server.removeSubsystem(params.subsystem),
  ),
  method(
    "subsystem.any_host",
    "lets any host connect, or only the allowed ones",
    z.strictObject({ ...subsystem, allow: subsystemSchema.shape.attr_allow_any_host }),
    ({ server }, params) => server.setAnyHost(params.subsystem, params.allow),
  ),
  method(
    "namespace.add",
    "adds a namespace, with the keys of the configuration",
    namespaceSchema.extend(subsystem),
    ({ server }, { subsystem: name, ...namespace }) => server.addNamespace(name, namespace),
  ),
  method(
    "namespace.remove",
    "ends its I/O, tells hosts, closes its file",
    ofNamespace,
    ({ server }, params) => server.removeNamespace(params.subsystem, params.nsid),
  ),
  method("namespace.enable", "shows it to hosts", ofNamespace, ({ server }, params) =>
    server.setEnabled(params.subsystem, params.nsid, true),
  ),
  method("namespace.disable", "takes it away from hosts", ofNamespace, ({ server }, params) =>
    server.setEnabled(params.subsystem, params.nsid, false),
  ),
  method(
    "namespace.set",
    "moves it to an ANA group, or changes its write protection",
    z.strictObject({
      ...subsystem,
      nsid,
      ana_grpid: namespaceSchema.shape.ana_grpid.unwrap().optional(),
      read_only: namespaceSchema.shape.read_only.unwrap().optional(),
    }),
    ({ server }, { ana_grpid: group, read_only: readOnly, ...of }) =>
      server.setNamespace(of.subsystem, of.nsid, {
        ...(group === undefined ? {} : { group }),
        ...(readOnly === undefined ? {} : { readOnly }),
      }),
  ),
  method("host.add", "sets a host's keys", hostSchema, ({ server }, params) =>
    server.setHost(params),
  ),
  method(
    "host.remove",
    "forgets a host: its keys, its places on lists; ends its controllers",
    z.strictObject({ nqn: hostSchema.shape.nqn }),
    ({ server }, params) => server.removeHost(params.nqn),
  ),
  method("host.allow", "lets a host connect", ofHost, ({ server }, params) =>
    server.allowHost(params.subsystem, params.host),
  ),
  method(
    "host.disallow",
    "takes it off the list and ends its controllers",
    ofHost,
    ({ server }, params) => server.disallowHost(params.subsystem, params.host),
  ),
  method("port.add", "listens at another address", portSchema, async ({ server }, params) => {
    await server.addPort(params);
    return server.ports.get(params.portid)?.at;
  }),
  method(
    "port.remove",
    "listens there no more; ends the controllers that came that way",
    z.strictObject({ portid }),
    ({ server }, params) => server.removePort(params.portid),
  ),
  method("port.link", "offers a subsystem there", ofLink, ({ server }, params) =>
    server.link(params.portid, params.subsystem),
  ),
  method(
    "port.unlink",
    "offers it there no more; ends its controllers that came that way",
    ofLink,
    ({ server }, params) => server.unlink(params.portid, params.subsystem),
  ),
  method(
    "referral.add",
    "points hosts to another discovery controller",
    referralSchema.extend({ portid }),
    ({ server }, { portid: port, ...referral }) => server.addReferral(port, referral),
  ),
  method(
    "referral.remove",
    "takes a referral back",
    z.strictObject({ portid, name: referralSchema.shape.name }),
    ({ server }, params) => server.removeReferral(params.portid, params.name),
  ),
  method(
    "ana.set",
    "sets the state of an ANA group through a port",
    anaGroupSchema.extend({ portid }),
    ({ server }, params) => server.setAnaState(params.portid, params.grpid, params.ana_state),
  ),
  method(
    "capture.start",
    "records connections that begin from now on, as pcapng",
    captureSchema,
    ({ capture }, settings) => capture.start(settings),
  ),
  method("capture.stop", "ends the capture; its file is complete then", nothing, ({ capture }) => {
    capture.stop("stopped by targetctl");
    return capture.inspect();
  }),
  method("capture.status", "what the capture has recorded", nothing, ({ capture }) =>
    capture.inspect(),
  ),
  method(
    "log.level",
    "what is worth a line from now on",
    z.strictObject({ level: z.enum(LOG_LEVELS).describe("least severity") }),
    (context, params) => context.setLogLevel(params.level),
  ),
];

function hostsWithoutKeys(server: TargetServer): unknown[] {
  return [...server.hosts.values()].map(({ nqn: name, dhchap_key: key, tls_key: tlsKey }) => ({
    nqn: name,
    dhchap: key !== undefined,
    tls: tlsKey !== undefined,
  }));
}

/** Error codes of JSON-RPC 2.0, section 5.1; the last is this server's own. */
export const RpcError = {
  parse: -32_700,
  invalidRequest: -32_600,
  methodNotFound: -32_601,
  invalidParams: -32_602,
  failed: -32_000,
} as const;

const requestSchema = z.looseObject({
  jsonrpc: z.literal("2.0"),
  id: z.union([z.string().max(256), z.number()]),
  method: z.string(),
  params: z.record(z.string(), z.unknown()).default({}),
});

export type RpcAnswer =
  | { readonly jsonrpc: "2.0"; readonly id: unknown; readonly result: unknown }
  | {
      readonly jsonrpc: "2.0";
      readonly id: unknown;
      readonly error: { readonly code: number; readonly message: string; readonly data?: Tree };
    };

/** Answers one line of text. Never throws. */
export async function answerLine(context: ControlContext, line: string): Promise<RpcAnswer> {
  let given: unknown;
  try {
    given = JSON.parse(line);
  } catch {
    return refusal(null, RpcError.parse, "not a JSON document", "send one JSON object a line");
  }
  const request = requestSchema.safeParse(given);
  if (!request.success) {
    const remedy = 'send {"jsonrpc":"2.0","id":1,"method":"status","params":{}}';
    return refusal(null, RpcError.invalidRequest, "not a JSON-RPC 2.0 request", remedy);
  }
  const { id, method: name, params } = request.data;
  const known = CONTROL_METHODS.find((one) => one.name === name);
  if (known === undefined) {
    const remedy = "peerlane targetctl --help lists the methods";
    return refusal(id, RpcError.methodNotFound, `there is no method ${name.slice(0, 64)}`, remedy);
  }
  const checked = known.params.safeParse(params);
  if (!checked.success) {
    const issue = checked.error.issues[0] as z.core.$ZodIssue;
    const where = issue.path.length === 0 ? "" : `${issue.path.map(String).join(".")}: `;
    const remedy = "docs/guide/target-config.md lists the keys with their values";
    return refusal(id, RpcError.invalidParams, `${where}${issue.message}`, remedy);
  }
  try {
    const result = await context.server.change(() => known.run(context, checked.data));
    if (!QUESTIONS.has(name)) context.changed(name);
    return { jsonrpc: "2.0", id, result: result ?? null };
  } catch (error) {
    const known_ = error instanceof PeerlaneError ? error : null;
    const code = error instanceof UsageError ? RpcError.invalidParams : RpcError.failed;
    const data = { code: known_?.code ?? "internal", place: known_?.place ?? null };
    const message = known_?.message ?? `internal error: ${String(error)}`;
    return {
      jsonrpc: "2.0",
      id,
      error: { code, message, data: { ...data, remedy: known_?.remedy ?? null } },
    };
  }
}

function refusal(id: unknown, code: number, message: string, remedy: string): RpcAnswer {
  const data = { code: "bad-request", place: null, remedy };
  return { jsonrpc: "2.0", id, error: { code, message, data } };
}
