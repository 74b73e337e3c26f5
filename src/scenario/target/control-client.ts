/** The other end of the control socket: one request, one answer. */

import { parse } from "yaml";
import { PeerlaneError, UsageError } from "../../core/index.ts";
import type { Clock, LocalSockets } from "../../platform/index.ts";
import { type RpcAnswer, RpcError } from "./control.ts";

/** An answer may hold a whole configuration. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** Removing waits for I/O in flight. */
const TIMEOUT_MS = 60_000;

/**
 * Asks the target behind `path`. Throws what it answers with as an error, `control-socket` when it
 * cannot be reached, `control-timeout`.
 */
export async function callTarget(
  sockets: LocalSockets,
  clock: Clock,
  path: string,
  method: string,
  params: object,
): Promise<unknown> {
  const stream = await sockets.connect(path);
  const line = await new Promise<string>((resolve, reject) => {
    const fail = (code: string, message: string): void => {
      cancel();
      stream.destroy();
      const remedy = "look at the target's log; ask again";
      reject(new PeerlaneError(code, message, { place: path, remedy }));
    };
    const cancel = clock.after(TIMEOUT_MS * 1000, () =>
      fail("control-timeout", `the target did not answer in ${TIMEOUT_MS} ms`),
    );
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    stream.start({
      onData(piece) {
        pieces.push(piece);
        bytes += piece.length;
        if (bytes > ANSWER_BYTES_MAX) fail("control-socket", "the answer is too long");
        if (!piece.includes(0x0a)) return;
        cancel();
        resolve(new TextDecoder().decode(Buffer.concat(pieces)));
        stream.destroy();
      },
      onDrain: () => undefined,
      onEnd: (reason) => fail("control-socket", `the connection ended: ${reason}`),
    });
    stream.write(
      new TextEncoder().encode(`${JSON.stringify({ jsonrpc: "2.0", id: 1, method, params })}\n`),
    );
  });
  const answer = JSON.parse(line) as RpcAnswer;
  if ("result" in answer) return answer.result;
  const { code, message, data = {} } = answer.error;
  const text = (key: string): string | undefined => {
    const value = data[key];
    return typeof value === "string" ? value : undefined;
  };
  const context = { place: text("place"), remedy: text("remedy") };
  const own = text("code") ?? "control";
  if (code === RpcError.failed) throw new PeerlaneError(own, message, context);
  throw new UsageError(own, message, context);
}

/** `key=value` words as parameters; a value is YAML. Throws `bad-parameter`. */
export function parseParameters(words: readonly string[]): Record<string, unknown> {
  const params: Record<string, unknown> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    const key = word.slice(0, Math.max(0, at));
    try {
      if (key === "") throw new Error("the key is missing");
      params[key] = value(word.slice(at + 1));
    } catch (error) {
      const message = `"${word}" is no parameter: ${(error as Error).message}`;
      throw new UsageError("bad-parameter", message, {
        remedy: "write key=value, for example nsid=1 or namespaces=[{nsid: 1, size: 1G}]",
      });
    }
  }
  return params;
}

/** Text stays text where YAML would see more in it: names and addresses have colons. */
function value(text: string): unknown {
  const isPlain = !/^[[{"']/.test(text) && text.includes(":");
  return isPlain ? text : parse(text, { maxAliasCount: 0 });
}
