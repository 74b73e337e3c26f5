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
import { capturedSessions, splitPdus } from "../testing/captured-host.ts";
import { HostileReplay, statusesIn } from "../testing/hostile-replay.ts";
import { damager } from "../testing/pdu-mutator.ts";

const ROUNDS = Number(process.env["PEERLANE_FUZZ_ROUNDS"] ?? 10);
const SEED = Number(process.env["PEERLANE_FUZZ_SEED"] ?? 20_261_124);
/** Offsets in a PDU at which it is cut: the longest header of a command, with digest and padding. */
const CUTS = 84;
/** For runs with many rounds; and for a machine that does much else. */
const LONG = { timeout: 3_600_000 };
const SLOW = { timeout: 120_000 };

const sessions = capturedSessions();
const everyPdu = sessions.flatMap(({ steps }) => steps.map(({ pdu }) => pdu));

/** Identifiers and statuses, whatever order they came in. */
const summary = (answers: readonly Uint8Array[]): string[] =>
  statusesIn(answers)
    .map(([cid, status]) => `${cid} ${formatStatus(status)}`)
    .sort();

describe.each(sessions)("$name", (session) => {
  const recorded = session.answers.map((bytes) => summary(splitPdus(bytes)));

  it("is answered as it was when it was recorded", SLOW, async () => {
    const replay = await HostileReplay.open(1);
    for (let again = 0; again < 2; again++) {
      const { connections, terminations } = await replay.play(session);
      expect(terminations).toEqual([]);
      expect(connections.map(({ answers }) => summary(answers))).toEqual(recorded);
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
      expect(connections.map(({ answers }) => summary(answers))).toEqual(recorded);
    }
  });

  it("does no harm when it is damaged", LONG, async () => {
    const seen = new Set<number>();
    const pdus = session.steps.map(({ pdu }) => pdu);
    const targets = [
      await HostileReplay.open(SEED),
      await HostileReplay.open(SEED, { provider: true }),
    ] as const;
    for (let round = 0; round < ROUNDS; round++) {
      const damage = damager(pdus, everyPdu, new Prng(SEED + 1000 * round));
      try {
        const { terminations } = await (targets[round % 2] as HostileReplay).play(session, damage);
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
