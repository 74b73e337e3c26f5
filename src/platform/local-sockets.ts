/**
 * Local (Unix) stream sockets: how programs on one host talk to a running command. The socket file
 * is this user's alone (0600) from the moment it exists, and one that a dead process left behind is
 * replaced; one that somebody answers on is not.
 *
 * Leaves out: abstract names, passing descriptors.
 */
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { createServer } from "node:net";
import process from "node:process";
import { PeerlaneError } from "../core/index.ts";
import { type ByteStream, closeServer, dial, RealStream } from "./sockets.ts";

export interface LocalListener {
  readonly path: string;
  /** Takes no new connections and removes the file; connections that are there stay. */
  close(): Promise<void>;
}

export interface LocalSockets {
  /** Throws `control-socket` (in use, no permission, something else is at that path). */
  listen(path: string, onStream: (stream: ByteStream) => void): Promise<LocalListener>;
  /** Throws `control-socket`. */
  connect(path: string): Promise<ByteStream>;
}

/** Path lengths that fit into a sockaddr_un with its NUL, in bytes. */
const PATH_BYTES_MAX = 107;
const OWNER_ONLY = 0o600;
const ALL_BUT_OWNER = 0o177;

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "check the path: start the target with --control, or `control:` in its configuration",
  ECONNREFUSED: "nothing listens there any more: start the target again",
  EACCES: "use the user that runs the target: the socket is that user's alone",
  EADDRINUSE: "choose another path, or stop the program that has it",
};

function failure(what: string, path: string, error: Error): PeerlaneError {
  const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
  return new PeerlaneError("control-socket", `${what} ${path}: ${error.message}`, {
    place: path,
    remedy: REMEDIES[errno] ?? "check the path and its permissions",
    details: { errno },
    cause: error,
  });
}

/** Takes a socket file away that nobody listens on. Throws when somebody does. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new PeerlaneError("control-socket", `${path} exists and is no socket`, {
      place: path,
      remedy: "choose another path: this file is not touched",
    });
  }
  try {
    (await dial({ path })).destroy();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED") {
      throw failure("cannot look at", path, error as Error);
    }
    unlinkSync(path);
    return;
  }
  throw new PeerlaneError("control-socket", `another program listens on ${path}`, {
    place: path,
    remedy: "stop it, or choose another path",
  });
}

export const realLocalSockets: LocalSockets = {
  async listen(path, onStream) {
    if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
      throw new PeerlaneError("control-socket", `${path} is too long for a socket`, {
        place: path,
        remedy: `use a path of at most ${PATH_BYTES_MAX} bytes`,
      });
    }
    await removeStale(path);
    return new Promise((resolve, reject) => {
      const server = createServer((socket) => onStream(new RealStream(socket, null, "control")));
      server.on("error", (error) => reject(failure("cannot listen on", path, error)));
      // `listen` makes the file before it returns: at no moment may another user connect.
      const before = process.umask(ALL_BUT_OWNER);
      try {
        server.listen({ path }, () => {
          chmodSync(path, OWNER_ONLY);
          resolve({ path, close: () => closeServer(server) });
        });
      } finally {
        process.umask(before);
      }
    });
  },

  async connect(path) {
    try {
      return new RealStream(await dial({ path }), null, path);
    } catch (error) {
      throw failure("cannot reach", path, error as Error);
    }
  },
};
