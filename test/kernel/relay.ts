/**
 * A TCP relay between the guest and a target: a second path to it, that can be cut, or that can
 * swallow everything in silence as a network does whose cable was pulled.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { HOST_ADDRESS } from "./guest.ts";

export class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;
  #isSilent = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static start(to: { readonly port: number }): Promise<Relay> {
    return new Promise((resolve, reject) => {
      let relay: Relay | null = null;
      const server = createServer((from) => relay?.relay(from, to.port));
      server.on("error", reject);
      server.listen(0, HOST_ADDRESS, () => {
        const address = server.address();
        relay = new Relay(server, typeof address === "object" ? (address?.port ?? 0) : 0);
        resolve(relay);
      });
    });
  }

  private relay(from: Socket, port: number): void {
    if (this.#isCut) {
      from.destroy();
      return;
    }
    const to = connect({ port, host: HOST_ADDRESS });
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        other.destroy();
        this.#sockets.delete(one);
      });
      if (this.#isSilent) one.pause();
    }
  }

  /** Resets all connections, and refuses new ones. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Nothing passes any more, and nobody is told. */
  silence(): void {
    this.#isSilent = true;
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  /** New connections pass again; those that were silent end. */
  restore(): void {
    this.#isCut = false;
    this.#isSilent = false;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
