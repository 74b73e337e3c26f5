/**
 * What real hosts said (testing/captures), said again to a whole target: as it was, cut anywhere,
 * and damaged. See testing/hostile-replay.ts for what must hold.
 *
 * PEERLANE_FUZZ_ROUNDS=200 runs longer (rounds per capture); PEERLANE_FUZZ_SEED varies it.
 */

import { describe, expect, it } from "vitest";
import { Prng, viewOf } from "../src/core/index.ts";
import { formatStatus, NvmeStatus, NvmOpcode, statusCode } from "../src/spec/nvme/index.ts";
import { TCP_CAPSULE_AT, TcpChOffset, TcpDataOffset, TcpPdu } from "../src/spec/nvmf/index.ts";
import {
  type CapturedSession,
  type CapturedStep,
  capturedSessions,
  splitPdus,
} from "../testing/captured-host.ts";
import { HostileReplay, type Played, statusesIn } from "../testing/hostile-replay.ts";
import {
  damager,
  exchangesIn,
  garbleExchange,
  MESSAGE_BYTES,
  messagesOf,
  stopExchange,
} from "../testing/pdu-mutator.ts";

const ROUNDS = Number(process.env["PEERLANE_FUZZ_ROUNDS"] ?? 10);
const SEED = Number(process.env["PEERLANE_FUZZ_SEED"] ?? 20_261_124);
/** Offsets in a PDU at which it is cut: the longest header of a command, with digest and padding. */
const CUTS = 84;
/** For runs with many rounds; and for a machine that does much else. */
const LONG = { timeout: 3_600_000 };
const SLOW = { timeout: 120_000 };

const sessions = capturedSessions();
const everyPdu = sessions.flatMap(({ steps }) => steps.map(({ pdu }) => pdu));

/**
 * Identifiers, statuses and results, in order where an identifier is used again. Not the result of Connect, which
 * comes first and is the controller's number; and none of Linux, which was granted other numbers of
 * queues when it was recorded.
 */
function summary(name: string, answers: readonly Uint8Array[]): string[] {
  const hasResults = name.startsWith("host-");
  return statusesIn(answers)
    .map((answer, i) => ({ answer, result: i > 0 && hasResults ? answer[2] : "" }))
    .sort((a, b) => a.answer[0] - b.answer[0])
    .map(({ answer: [cid, status], result }) => `${cid} ${formatStatus(status)} ${result}`);
}

describe.each(sessions)("$name", (session) => {
  const said = (answers: readonly Uint8Array[]): string[] => summary(session.name, answers);
  const recorded = session.answers.map((bytes) => said(splitPdus(bytes)));

  it("is answered as it was when it was recorded", SLOW, async () => {
    const replay = await HostileReplay.open(1);
    for (let again = 0; again < 2; again++) {
      const { connections, terminations } = await replay.play(session);
      expect(terminations).toEqual([]);
      expect(connections.map(({ answers }) => said(answers))).toEqual(recorded);
    }
  });

  it("is answered the same wherever its PDUs are cut", LONG, async () => {
    // Each piece in two parts. A long run tries every offset in a header and behind it.
    const prng = new Prng(SEED + sessions.indexOf(session));
    let at = 0;
    let isFirst = true;
    const cut = (available: number): number => {
      isFirst = !isFirst;
      return isFirst ? available : Math.min(at, available);
    };
    const replay = await HostileReplay.open(3, { cut });
    for (let n = 0; n < CUTS && n < ROUNDS / 2; n++) {
      at = ROUNDS / 2 < CUTS ? 1 + prng.below(CUTS) : 1 + n;
      const { connections } = await replay.play(session);
      expect(connections.map(({ answers }) => said(answers))).toEqual(recorded);
    }
  });

  it("does no harm when it is damaged", LONG, async () => {
    const seen = new Set<number>();
    const targets = [
      await HostileReplay.open(SEED),
      await HostileReplay.open(SEED, { way: "cmb" }),
      await HostileReplay.open(SEED, { way: "no-disk" }),
    ] as const;
    for (let round = 0; round < ROUNDS; round++) {
      const damage = damager(session.steps, everyPdu, new Prng(SEED + 1000 * round));
      try {
        const { terminations } = await (targets[round % 3] as HostileReplay).play(session, damage);
        for (const fes of terminations) seen.add(fes);
      } catch (error) {
        (error as Error).message += ` (${session.name}, seed ${SEED}, round ${round})`;
        throw error;
      }
    }
    // It did hurt, and payload went through the provider.
    expect(seen.size).toBeGreaterThan(1);
    await targets[1].play(session);
    const { counters } = targets[1].harness.rig.assembly.orchestrator;
    expect((counters.inspect() as { netBytes: { cpu: number } }).netBytes.cpu).toBeGreaterThan(0);
  });
});

describe("a host that must authenticate", () => {
  const [session] = sessions.filter(({ name }) => name === "host-fused") as [CapturedSession];
  const { steps } = session;
  const exchanges = exchangesIn(steps);
  const wentWell = (answers: readonly Uint8Array[]): number =>
    statusesIn(answers).filter(([, status]) => status === 0).length;

  it("is not served when it stops half-way, wherever", SLOW, async () => {
    const replay = await HostileReplay.open(4);
    expect(exchanges).toHaveLength(2);
    for (const exchange of exchanges) {
      const { connection } = steps[exchange[0] as number] as CapturedStep;
      const recorded = wentWell(splitPdus(session.answers[connection] as Uint8Array));
      for (const from of exchange.keys()) {
        const { connections } = await replay.play(session, stopExchange(exchange, from));
        // Connect, and what it did say.
        const served = wentWell((connections[connection] as Played).answers);
        expect(served).toBeLessThanOrEqual(1 + from);
        expect(served).toBeLessThan(recorded);
      }
    }
  });

  it("is not served with a wrong message", SLOW, async () => {
    const replay = await HostileReplay.open(5);
    for (const [i, which] of exchanges.flatMap((one) => messagesOf(one, steps)).entries()) {
      for (let at = i % 4; at < MESSAGE_BYTES; at += 4) {
        await replay.play(session, garbleExchange(which, at, at % 8));
      }
    }
    const { counters } = replay.harness.target.security;
    expect(counters.failed).toBeGreaterThan(20);
  });
});

describe("a data digest that does not match", () => {
  const digests = sessions.filter(({ name }) => name.endsWith("digests"));
  it.each(digests)(
    "fails its command alone, as a transport error: $name",
    SLOW,
    async (session) => {
      const replay = await HostileReplay.open(2);
      const written = [...session.steps.entries()].filter(([, { pdu }]) => isIoData(pdu));
      expect(written.length).toBeGreaterThan(3);
      for (const [index, { connection, pdu: original }] of written) {
        const { connections, terminations } = await replay.play(session, (pdu, at) => {
          if (at !== index) return [pdu];
          const damaged = Uint8Array.from(pdu);
          const where = (damaged[TcpChOffset.PDO] as number) + (index % 64);
          damaged[where] = (damaged[where] as number) ^ 1;
          return [damaged];
        });
        expect(terminations).toEqual([]);
        const failed = connections.map(({ answers }) =>
          statusesIn(answers).filter(
            ([, status]) => statusCode(status) === NvmeStatus.transientTransportError,
          ),
        );
        const at = original[0] === TcpPdu.H2C_DATA ? TcpDataOffset.CCCID : TCP_CAPSULE_AT + 2;
        expect(failed.flat()).toHaveLength(1);
        expect(failed[connection]?.[0]?.[0]).toBe(viewOf(original).getUint16(at, true));
      }
    },
  );
});

/** It carries data of a write or compare. */
function isIoData(pdu: Uint8Array): boolean {
  if (pdu[0] === TcpPdu.H2C_DATA) return true;
  const hasData = pdu[0] === TcpPdu.CAPSULE_CMD && pdu[TcpChOffset.PDO] !== 0;
  return hasData && [NvmOpcode.write, NvmOpcode.compare].includes(pdu[TCP_CAPSULE_AT] as never);
}
