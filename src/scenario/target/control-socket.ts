/**
 * The control socket: one JSON document a line in each direction, over a local stream socket that
 * is this user's alone. A connection's requests are answered in order.
 *
 * Invariants: a client costs at most one line, one request under way and its answer: reading pauses
 * meanwhile; a line that is too long, or is not finished in time, is answered with an error and
 * ends the connection; a client that does not read its answers gets no more of them, and is let go
 * after the same time.
 */

import {
  CONTROL_CONNECTIONS_MAX,
  CONTROL_LINE_BYTES_MAX,
  CONTROL_LINE_TIMEOUT_MS,
} from "../../core/index.ts";
import type {
  ByteStream,
  CancelTimer,
  Clock,
  LocalListener,
  LocalSockets,
  StreamEvents,
} from "../../platform/index.ts";
import { answerLine, type ControlContext, type RpcAnswer, RpcError } from "./control.ts";

const NEWLINE = 0x0a;
const TIMEOUT_US = CONTROL_LINE_TIMEOUT_MS * 1000;

export class ControlSocket {
  private readonly context: ControlContext;
  private readonly clock: Clock;
  private readonly clients = new Set<Client>();
  private listener: LocalListener | null = null;

  private constructor(context: ControlContext, clock: Clock) {
    this.context = context;
    this.clock = clock;
  }

  /** Throws `control-socket`. */
  static async open(
    sockets: LocalSockets,
    path: string,
    context: ControlContext,
    clock: Clock,
  ): Promise<ControlSocket> {
    const socket = new ControlSocket(context, clock);
    socket.listener = await sockets.listen(path, (stream) => socket.accept(stream));
    return socket;
  }

  get connections(): number {
    return this.clients.size;
  }

  private accept(stream: ByteStream): void {
    if (this.clients.size >= CONTROL_CONNECTIONS_MAX) {
      stream.destroy();
      return;
    }
    const client = new Client(stream, this.context, this.clock, () => this.clients.delete(client));
    this.clients.add(client);
    stream.start(client);
  }

  async close(): Promise<void> {
    await this.listener?.close();
    for (const client of [...this.clients]) client.stream.destroy();
  }
}

class Client implements StreamEvents {
  readonly stream: ByteStream;
  private readonly context: ControlContext;
  private readonly clock: Clock;
  private readonly gone: () => void;
  /** What arrived and is not a whole line yet, and its bytes. */
  private pieces: Uint8Array[] = [];
  private held = 0;
  private isBusy = false;
  private isOver = false;
  private timer: CancelTimer | null = null;

  constructor(stream: ByteStream, context: ControlContext, clock: Clock, gone: () => void) {
    this.stream = stream;
    this.context = context;
    this.clock = clock;
    this.gone = gone;
  }

  onData(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.pieces.push(bytes);
    this.held += bytes.length;
    this.next(bytes.includes(NEWLINE));
  }

  onDrain(): void {
    this.finished();
  }

  onEnd(): void {
    this.isOver = true;
    this.pieces = [];
    this.timer?.();
    this.gone();
  }

  /** Takes the next whole line, if there is one and nothing is under way. */
  private next(mayHaveLine: boolean): void {
    if (this.isBusy || this.isOver) return;
    let end = -1;
    if (mayHaveLine) {
      const all = Buffer.concat(this.pieces);
      this.pieces = [all];
      end = all.indexOf(NEWLINE);
    }
    if (end < 0 ? this.held > CONTROL_LINE_BYTES_MAX : end > CONTROL_LINE_BYTES_MAX) {
      this.refuse(`a line has at most ${CONTROL_LINE_BYTES_MAX} bytes`);
      return;
    }
    this.timer?.();
    this.timer = null;
    if (end < 0) {
      if (this.held > 0) this.timer = this.watch();
      return;
    }
    const all = this.pieces[0] as Buffer;
    const rest = all.subarray(end + 1);
    this.pieces = rest.length > 0 ? [rest] : [];
    this.held = rest.length;
    void this.answer(all.toString("utf8", 0, end));
  }

  private watch(): CancelTimer {
    return this.clock.after(TIMEOUT_US, () => {
      this.refuse(`the line was not finished in ${CONTROL_LINE_TIMEOUT_MS} ms`);
    });
  }

  private async answer(line: string): Promise<void> {
    this.isBusy = true;
    this.stream.pause();
    const answer = await answerLine(this.context, line);
    if (this.isOver) return;
    if (this.send(answer)) this.finished();
    else this.timer = this.clock.after(TIMEOUT_US, () => this.stream.destroy());
  }

  /** False: the client must read first. */
  private send(answer: RpcAnswer): boolean {
    return this.stream.write(new TextEncoder().encode(`${JSON.stringify(answer)}\n`));
  }

  private finished(): void {
    if (!this.isBusy || this.isOver) return;
    this.isBusy = false;
    this.timer?.();
    this.timer = null;
    this.stream.resume();
    this.next(this.held > 0);
  }

  private refuse(message: string): void {
    if (this.isOver) return;
    const data = { code: "bad-request", place: null, remedy: "send one short JSON object a line" };
    const error = { code: RpcError.invalidRequest, message, data };
    this.send({ jsonrpc: "2.0", id: null, error });
    this.isOver = true;
    this.pieces = [];
    this.stream.end();
  }
}
