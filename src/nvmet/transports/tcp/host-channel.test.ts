/** The host against a target that breaks the protocol: one connection ends, and that is all. */

import { expect, it } from "vitest";
import { encodeLayout } from "../../../core/index.ts";
import { MemoryNetwork, type StreamEvents } from "../../../platform/index.ts";
import { TCP_HLEN, TCP_ICRESP, TCP_LAYOUTS, TcpFes, TcpPdu } from "../../../spec/nvmf/index.ts";
import { NvmfHost } from "../../index.ts";
import { TcpHostTransport } from "./host-transport.ts";

const AT = { address: "127.0.0.1", port: 4420 };

function icResp(): Uint8Array {
  const length = TCP_HLEN[TcpPdu.ICRESP];
  const bytes = new Uint8Array(length);
  const values = { "PDU-Type": TcpPdu.ICRESP, HLEN: length, PLEN: length, MAXH2CDATA: 4096 };
  encodeLayout(TCP_ICRESP, values, bytes);
  return bytes;
}

/** A capsule with an all-zero response to command `cid`. */
function response(cid: number): Uint8Array {
  const layout = TCP_LAYOUTS.get(TcpPdu.CAPSULE_RESP);
  if (layout === undefined) throw new Error("no such PDU");
  const length = TCP_HLEN[TcpPdu.CAPSULE_RESP];
  const bytes = new Uint8Array(length);
  encodeLayout(layout, { "PDU-Type": TcpPdu.CAPSULE_RESP, HLEN: length, PLEN: length }, bytes);
  bytes[8 + 12] = cid;
  return bytes;
}

/** A target that answers ICReq, and the first command with `answers`. Resolves to what it heard. */
async function meet(answers: readonly Uint8Array[]) {
  const network = new MemoryNetwork();
  const heard: Uint8Array[] = [];
  await network.listen(AT, (stream) => {
    const events: StreamEvents = {
      onData(bytes) {
        heard.push(bytes);
        if (bytes[0] === TcpPdu.ICREQ) stream.write(icResp());
        else if (bytes[0] === TcpPdu.CAPSULE_CMD) for (const piece of answers) stream.write(piece);
      },
      onDrain() {},
      onEnd() {},
    };
    stream.start(events);
  });
  const host = new NvmfHost({
    transport: new TcpHostTransport({ network, ...AT }),
    hostNqn: "nqn.2026-11.test.peerlane:host",
    subsystemNqn: "nqn.2026-11.test.peerlane:subsystem",
    nowNs: () => 0,
  });
  let outcome: unknown = null;
  host.connect().then(
    () => {
      outcome = "connected";
    },
    (error: unknown) => {
      outcome = error;
    },
  );
  for (let i = 0; i < 200; i++) {
    network.poll();
    host.poll();
    await Promise.resolve();
  }
  return { outcome, heard };
}

it.each([
  ["no command", [response(7)]],
  ["a command that was answered", [response(0), response(0)]],
  ["a command that no queue has", [response(255)]],
])("ends the connection at a response to %s", async (_, answers) => {
  const { outcome, heard } = await meet(answers);
  expect(outcome).toBeInstanceOf(Error);
  const terms = heard.filter((bytes) => bytes[0] === TcpPdu.H2C_TERM_REQ);
  expect(terms).toHaveLength(1);
  const [term] = terms as [Uint8Array];
  // FES, and in FEI where the command identifier lies.
  expect([term[8], term[10]]).toEqual([TcpFes.INVALID_HEADER_FIELD, 20]);
});
