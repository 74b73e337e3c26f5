/**
 * A small HTTP server for answers that are one text: metrics, a health check. Bounded: few
 * connections, short headers, times for everything; a request body is refused.
 *
 * Leaves out: TLS, streaming, anything but GET and HEAD.
 */
import { createServer } from "node:http";
import { listenOn, type StreamAddress, type StreamListener } from "./sockets.ts";

export interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const CONNECTIONS_MAX = 16;
const HEADER_BYTES_MAX = 8 * 1024;
/** For a request to arrive, and for a client to take its answer. */
const REQUEST_MS = 5000;
const KEEP_ALIVE_MS = 1000;

/** Serves `answer` of each path. Throws `listen-failed`. */
export async function listenHttp(
  at: StreamAddress,
  answer: (path: string) => HttpAnswer,
  requestMs = REQUEST_MS,
): Promise<StreamListener> {
  const options = {
    maxHeaderSize: HEADER_BYTES_MAX,
    requestTimeout: requestMs,
    headersTimeout: requestMs,
    // Otherwise it looks for late ones twice a minute only.
    connectionsCheckingInterval: requestMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
  const server = createServer(options, (request, response) => {
    const isRead = request.method === "GET" || request.method === "HEAD";
    const path = (request.url ?? "/").split("?")[0] as string;
    const { status, type, body } = isRead
      ? answer(path)
      : { status: 405, type: "text/plain", body: "only GET and HEAD\n" };
    const bytes = Buffer.from(body, "utf8");
    response.writeHead(status, { "Content-Type": type, "Content-Length": bytes.length });
    response.end(request.method === "HEAD" ? undefined : bytes);
    // What a body would bring is not read.
    if (!isRead) request.destroy();
  });
  // A connection on which nothing moves for so long is destroyed, answers that nobody reads
  // included.
  server.timeout = requestMs;
  // Many requests at once would have an answer each in memory before the first is taken.
  server.maxRequestsPerSocket = 1;
  server.maxConnections = CONNECTIONS_MAX;
  const listener = await listenOn(server, at);
  return {
    at: listener.at,
    close: () => {
      server.closeAllConnections();
      return listener.close();
    },
  };
}
