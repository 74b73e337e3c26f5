import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLayout, encodeLayout, viewOf } from "../../core/index.ts";
import * as spec from "./index.ts";

const RUNS = { seed: 20261124, numRuns: 200 };

const STRUCTS = [
  spec.IDENTIFY_CONTROLLER,
  spec.IDENTIFY_NAMESPACE,
  spec.IDENTIFY_CONTROLLER_NVM,
  spec.IDENTIFY_NAMESPACE_NVM,
  spec.IDENTIFY_NAMESPACE_INDEPENDENT,
  spec.ERROR_LOG_ENTRY,
  spec.SMART_LOG,
  spec.FIRMWARE_SLOT_LOG,
  spec.DSM_RANGE,
  spec.COPY_RANGE_0,
  spec.COPY_RANGE_1,
  spec.ANA_HEADER,
  spec.ANA_GROUP,
  spec.RESERVATION_KEYS,
  spec.RESERVATION_STATUS,
  spec.REGISTERED_CONTROLLER,
  spec.REGISTERED_CONTROLLER_EXTENDED,
];

describe("every structure", () => {
  it("reads back each number it writes, and touches no neighbour", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...STRUCTS),
        fc.maxSafeInteger().map(Math.abs),
        fc.nat(64),
        (struct, value, base) => {
          const bytes = new Uint8Array(struct.sizeBytes + base);
          const view = viewOf(bytes);
          for (const field of Object.values(struct.fields)) {
            if (!(field instanceof spec.UintField)) continue;
            bytes.fill(0xa5);
            const cut = field.bytes >= 8 ? value : value % 2 ** (8 * field.bytes);
            field.set(view, cut, base);
            expect(field.get(view, base)).toBe(cut);
            const at = base + field.offset;
            bytes.fill(0xa5, at, at + field.bytes);
            expect(bytes.every((byte) => byte === 0xa5)).toBe(true);
          }
        },
      ),
      { ...RUNS, numRuns: 60 },
    );
  });

  it("agrees with its table on random bytes", () => {
    fc.assert(
      fc.property(fc.constantFrom(...STRUCTS), fc.infiniteStream(fc.nat(255)), (struct, stream) => {
        const bytes = new Uint8Array(struct.sizeBytes);
        for (let i = 0; i < bytes.length; i++) bytes[i] = stream.next().value as number;
        const decoded = decodeLayout(struct.layout, bytes);
        for (const [name, field] of Object.entries(struct.fields)) {
          if (!(field instanceof spec.UintField)) continue;
          expect(decoded[name]).toBe(field.get(viewOf(bytes)));
        }
        const again = new Uint8Array(struct.sizeBytes);
        encodeLayout(struct.layout, decoded, again);
        for (const [name, field] of Object.entries(struct.fields)) {
          if (field instanceof spec.BytesField) {
            expect(field.get(viewOf(again)), name).toEqual(field.get(viewOf(bytes)));
          }
        }
      }),
      { ...RUNS, numRuns: 40 },
    );
  });
});

describe("submission queue entries", () => {
  it("have the same fields as dwords and as bytes", () => {
    fc.assert(
      fc.property(
        fc.nat(255),
        fc.nat(65_535),
        fc.nat(3),
        fc.nat(3),
        fc.nat(0xffff_ffff),
        (opcode, cid, psdt, fuse, nsid) => {
          const words = new Uint32Array(spec.SQE_DWORDS);
          words[spec.SqeDword.cdw0] = spec.packCdw0(opcode, cid, psdt, fuse);
          words[spec.SqeDword.nsid] = nsid;
          const view = new DataView(words.buffer);
          expect(view.getUint8(spec.SqeOffset.opcode)).toBe(opcode);
          expect(view.getUint16(spec.SqeOffset.cid, true)).toBe(cid);
          expect(view.getUint32(spec.SqeOffset.nsid, true)).toBe(nsid);
          const cdw0 = words[0] as number;
          expect(spec.CDW0_PSDT.get(cdw0)).toBe(psdt);
          expect(spec.CDW0_FUSE.get(cdw0)).toBe(fuse);
        },
      ),
      RUNS,
    );
  });

  it("place every dword at four times its index", () => {
    const byteOf: Record<string, number> = { ...spec.SqeOffset };
    for (const name of ["nsid", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15"] as const) {
      expect(byteOf[name]).toBe(4 * spec.SqeDword[name]);
    }
    expect(4 * spec.SqeDword.prp1Lo).toBe(spec.SqeOffset.prp1);
    expect(4 * spec.SqeDword.prp2Lo).toBe(spec.SqeOffset.prp2);
    expect(4 * spec.SqeDword.mptrLo).toBe(spec.SqeOffset.mptr);
  });
});

describe("SGL descriptors", () => {
  it("read back", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 52 - 1 }),
        fc.nat(0xffff_ffff),
        fc.nat(15),
        fc.nat(15),
        (address, length, type, subtype) => {
          const view = viewOf(new Uint8Array(16));
          spec.setSgl(view, 0, address, length, type, subtype);
          expect(spec.sglAddress(view, 0)).toBe(address);
          expect(spec.sglLength(view, 0)).toBe(length);
          expect(spec.sglType(view, 0)).toBe(type);
          expect(spec.sglSubtype(view, 0)).toBe(subtype);
        },
      ),
      RUNS,
    );
  });
});

/** Bit by bit, as the polynomial defines it. */
function crcByBits(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    for (let i = 7; i >= 0; i--) {
      const bit = ((crc >> 15) ^ (byte >> i)) & 1;
      crc = ((crc << 1) & 0xffff) ^ (bit === 1 ? 0x8bb7 : 0);
    }
  }
  return crc;
}

describe("CRC-16 T10-DIF", () => {
  it("has the published check value", () => {
    expect(spec.crc16T10(new TextEncoder().encode("123456789"), 0, 9)).toBe(0xd0db);
    expect(spec.crc16T10(new Uint8Array(512), 0, 512)).toBe(0);
    expect(spec.crc16T10(new Uint8Array(32).fill(0xff), 0, 32)).toBe(
      crcByBits(new Uint8Array(32).fill(0xff)),
    );
  });

  it("equals the bitwise definition for any run, and can be continued", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(40), (bytes, split) => {
        const whole = crcByBits(bytes);
        expect(spec.crc16T10(bytes, 0, bytes.length)).toBe(whole);
        const at = Math.min(split, bytes.length);
        const first = spec.crc16T10(bytes, 0, at);
        expect(spec.crc16T10(bytes, at, bytes.length - at, first)).toBe(whole);
      }),
      RUNS,
    );
  });

  it("protection information reads back", () => {
    fc.assert(
      fc.property(
        fc.nat(0xffff),
        fc.nat(0xffff),
        fc.nat(0xffff_ffff),
        fc.nat(9),
        (guard, app, ref, at) => {
          const bytes = new Uint8Array(20);
          spec.setPi(bytes, at, guard, app, ref);
          expect(spec.getGuard(bytes, at)).toBe(guard);
          expect(spec.getAppTag(bytes, at)).toBe(app);
          expect(spec.getRefTag(bytes, at)).toBe(ref);
        },
      ),
      RUNS,
    );
  });
});
