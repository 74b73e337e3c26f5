import { describe, expect, it } from "vitest";
import { makeNvme, type RawCommand } from "../../../../testing/nvme-raw-host.ts";
import { Prng, viewOf } from "../../../core/index.ts";
import * as spec from "../../../spec/nvme/index.ts";

const MIB = 1024 * 1024;
const { NvmeStatus, NvmOpcode, PiType, PRACT, PRCHK_APP, PRCHK_GUARD, PRCHK_REF } = spec;
const LBA = 512;
/** Where the tests keep separate metadata, and what they read back. */
const META = 2 * MIB;
const BACK = 3 * MIB;
const BACK_META = 5 * MIB;
const SLBA = 40;

interface Setup {
  readonly piType: number;
  readonly metadataBytes: number;
  readonly extended: boolean;
  readonly piFirst: boolean;
}

function ready(setup: Partial<Setup>) {
  const format = { piType: 1, metadataBytes: 8, extended: false, piFirst: false, ...setup };
  const made = makeNvme({ namespaces: [{ sizeBytes: MIB, lbaBytes: LBA, ...format }] });
  const { host } = made;
  host.enable();
  const queue = host.createQueue(1, 64);
  const run = (command: RawCommand) => host.submit(queue, { nsid: 1, ...command });
  const pages = (at: number) => {
    const list = viewOf(host.bytes(6 * MIB + (at % 4096), 4096));
    for (let i = 0; i < 64; i++) {
      list.setUint32(i * 8, host.data(at + (i + 1) * 4096) >>> 0, true);
      list.setUint32(i * 8 + 4, 1, true);
    }
    return host.data(6 * MIB + (at % 4096));
  };
  /** Read or Write of `blocks` blocks at SLBA with protection fields. */
  const io = (
    opcode: number,
    blocks: number,
    fields: { prinfo?: number; ref?: number; app?: number; mask?: number; slba?: number } = {},
  ) => {
    const reads = opcode === NvmOpcode.read;
    const bytes = blocks * (LBA + (format.extended ? format.metadataBytes : 0));
    const at = reads ? BACK : 0;
    return run({
      opcode,
      prp1: host.data(at),
      prp2: bytes > 8192 ? pages(at) : host.data(at + 4096),
      mptr: host.data(reads ? BACK_META : META),
      cdw10: fields.slba ?? SLBA,
      cdw12: (((fields.prinfo ?? 0) << 26) | (blocks - 1)) >>> 0,
      cdw14: fields.ref ?? SLBA,
      cdw15: (((fields.mask ?? 0xffff) << 16) | (fields.app ?? 0x1234)) >>> 0,
    });
  };
  return { ...made, format, run, io };
}

/** Fills host buffers with random blocks and right protection information. */
function prepare(
  made: ReturnType<typeof ready>,
  blocks: number,
  tags: { app: number; ref: number },
): void {
  const { host, format } = made;
  const { metadataBytes, extended, piFirst, piType } = format;
  const stride = LBA + (extended ? metadataBytes : 0);
  const prng = new Prng(blocks);
  prng.fill(host.bytes(0, blocks * stride));
  prng.fill(host.bytes(META, blocks * metadataBytes));
  for (let i = 0; i < blocks; i++) {
    const data = host.bytes(i * stride, LBA);
    const metadata = extended
      ? host.bytes(i * stride + LBA, metadataBytes)
      : host.bytes(META + i * metadataBytes, metadataBytes);
    const at = piFirst ? 0 : metadataBytes - 8;
    const guard = spec.crc16T10(metadata, 0, at, spec.crc16T10(data, 0, LBA));
    spec.setPi(metadata, at, guard, tags.app, piType === 3 ? tags.ref : tags.ref + i);
  }
}

const SETUPS: Setup[] = [];
for (const piType of [1, 2, 3]) {
  for (const metadataBytes of [8, 64]) {
    for (const extended of [false, true]) {
      for (const piFirst of [false, true]) {
        SETUPS.push({ piType, metadataBytes, extended, piFirst });
      }
    }
  }
}

describe.each(SETUPS)(
  "type $piType, $metadataBytes bytes, extended $extended, first $piFirst",
  (setup) => {
    const checks = PRCHK_GUARD | PRCHK_APP | (setup.piType === PiType.type3 ? 0 : PRCHK_REF);
    const blocks = 300;

    it("carries the host's protection information both ways, checked", () => {
      const made = ready(setup);
      prepare(made, blocks, { app: 0x1234, ref: SLBA });
      expect(made.io(NvmOpcode.write, blocks, { prinfo: checks }).code).toBe(0);
      expect(made.io(NvmOpcode.read, blocks, { prinfo: checks }).code).toBe(0);
      const stride = LBA + (setup.extended ? setup.metadataBytes : 0);
      const { host } = made;
      const bytes = blocks * stride;
      expect(Buffer.compare(host.bytes(0, bytes), host.bytes(BACK, bytes))).toBe(0);
      if (!setup.extended) {
        const sent = host.bytes(META, blocks * setup.metadataBytes);
        const back = host.bytes(BACK_META, blocks * setup.metadataBytes);
        expect(Buffer.compare(sent, back)).toBe(0);
      }
    });

    it("PRACT inserts on write, and strips or passes on read", () => {
      const made = ready(setup);
      const { host } = made;
      const passes = setup.metadataBytes > 8;
      const stride = LBA + (setup.extended && passes ? setup.metadataBytes : 0);
      new Prng(7).fill(host.bytes(0, blocks * stride));
      new Prng(8).fill(host.bytes(META, blocks * setup.metadataBytes));
      expect(made.io(NvmOpcode.write, blocks, { prinfo: PRACT }).code).toBe(0);
      const verify = { opcode: NvmOpcode.verify, cdw10: SLBA, cdw14: SLBA, cdw15: 0xffff_1234 };
      expect(made.run({ ...verify, cdw12: ((checks << 26) | (blocks - 1)) >>> 0 }).code).toBe(0);
      host.bytes(BACK, blocks * 600).fill(0xcc);
      expect(made.io(NvmOpcode.read, blocks, { prinfo: PRACT | checks }).code).toBe(0);
      const block = (base: number, i: number) => host.bytes(base + i * stride, LBA);
      for (let i = 0; i < blocks; i++) {
        expect(Buffer.compare(block(0, i), block(BACK, i))).toBe(0);
      }
      expect(host.bytes(BACK + blocks * stride, 1)[0]).toBe(0xcc);
      if (passes) {
        const base = setup.extended ? BACK + LBA : BACK_META;
        const step = setup.extended ? stride : setup.metadataBytes;
        const at = setup.piFirst ? 0 : setup.metadataBytes - 8;
        const last = host.bytes(base + (blocks - 1) * step + at, 8);
        expect(spec.getAppTag(last, 0)).toBe(0x1234);
        expect(spec.getRefTag(last, 0)).toBe(setup.piType === 3 ? SLBA : SLBA + blocks - 1);
      }
    });

    it("finds a wrong guard, application tag and reference tag", () => {
      const made = ready(setup);
      prepare(made, 4, { app: 0x1234, ref: SLBA });
      const stride = LBA + (setup.extended ? setup.metadataBytes : 0);
      const victim = made.host.bytes(2 * stride + 100, 1);
      victim[0] = (victim[0] as number) ^ 0x10;
      expect(made.io(NvmOpcode.write, 4, { prinfo: checks }).code).toBe(NvmeStatus.guardCheckError);
      // Unchecked it goes in, and is found when it is read with checks.
      expect(made.io(NvmOpcode.write, 4).code).toBe(0);
      expect(made.io(NvmOpcode.read, 4).code).toBe(0);
      expect(made.io(NvmOpcode.read, 4, { prinfo: PRCHK_GUARD }).code).toBe(
        NvmeStatus.guardCheckError,
      );
      victim[0] = (victim[0] as number) ^ 0x10;
      expect(made.io(NvmOpcode.write, 4, { prinfo: checks, app: 0x1235 }).code).toBe(
        NvmeStatus.applicationTagCheckError,
      );
      expect(made.io(NvmOpcode.write, 4, { prinfo: checks, app: 0x1235, mask: 0xfff0 }).code).toBe(
        0,
      );
      if (setup.piType === PiType.type2) {
        expect(made.io(NvmOpcode.write, 4, { prinfo: checks, ref: 41 }).code).toBe(
          NvmeStatus.referenceTagCheckError,
        );
      }
    });
  },
);

describe("rules of each type", () => {
  it("type 1: the initial reference tag is the low half of the LBA", () => {
    const made = ready({ piType: 1 });
    prepare(made, 2, { app: 1, ref: SLBA });
    const wrong = { prinfo: PRCHK_REF, ref: SLBA + 1 };
    expect(made.io(NvmOpcode.write, 2, wrong).code).toBe(NvmeStatus.invalidProtectionInformation);
    expect(made.io(NvmOpcode.read, 2, wrong).code).toBe(NvmeStatus.invalidProtectionInformation);
  });

  it("type 3: there is no reference tag to check", () => {
    const made = ready({ piType: 3 });
    expect(made.io(NvmOpcode.write, 2, { prinfo: PRCHK_REF }).code).toBe(
      NvmeStatus.invalidProtectionInformation,
    );
  });

  it("an application tag of all ones turns checks off; type 3 wants the reference tag too", () => {
    for (const [piType, ref, code] of [
      [1, SLBA, 0],
      [2, 9, 0],
      [3, 9, NvmeStatus.guardCheckError],
      [3, 0xffff_ffff, 0],
    ] as const) {
      const made = ready({ piType });
      prepare(made, 1, { app: 0xffff, ref });
      const byte = made.host.bytes(3, 1);
      byte[0] = (byte[0] as number) ^ 1;
      const checks = { prinfo: PRCHK_GUARD, ref: SLBA };
      expect(made.io(NvmOpcode.write, 1, checks).code, `type ${piType}`).toBe(code);
    }
  });

  it("type 2 reference tags wrap", () => {
    const made = ready({ piType: 2 });
    prepare(made, 4, { app: 5, ref: 0xffff_fffe });
    const checks = { prinfo: PRCHK_REF | PRCHK_GUARD, ref: 0xffff_fffe };
    expect(made.io(NvmOpcode.write, 4, checks).code).toBe(0);
    expect(made.io(NvmOpcode.read, 4, checks).code).toBe(0);
  });
});

describe("deallocated and zeroed blocks", () => {
  const all = PRCHK_GUARD | PRCHK_APP | PRCHK_REF;

  it("never written read as zeros with protection information of ones, which passes", () => {
    const made = ready({ piType: 1 });
    expect(made.io(NvmOpcode.read, 3, { prinfo: all }).code).toBe(0);
    expect(made.host.bytes(BACK, LBA).every((byte) => byte === 0)).toBe(true);
    expect(made.host.bytes(BACK_META, 24).every((byte) => byte === 0xff)).toBe(true);
  });

  it("Write Zeroes makes protection information with PRACT, zeros without", () => {
    const made = ready({ piType: 1 });
    const zero = { opcode: NvmOpcode.writeZeroes, cdw10: SLBA, cdw14: SLBA, cdw15: 0xffff_1234 };
    expect(made.run({ ...zero, cdw12: ((PRACT << 26) | 3) >>> 0 }).code).toBe(0);
    expect(made.io(NvmOpcode.read, 4, { prinfo: all }).code).toBe(0);
    expect(spec.getAppTag(made.host.bytes(BACK_META, 8), 0)).toBe(0x1234);
    expect(made.run({ ...zero, cdw12: 3 }).code).toBe(0);
    expect(made.io(NvmOpcode.read, 4, { prinfo: PRCHK_GUARD }).code).toBe(0);
    expect(made.host.bytes(BACK_META, 32).every((byte) => byte === 0)).toBe(true);
    const checked = { ...zero, cdw12: (PRCHK_GUARD << 26) >>> 0 };
    expect(made.run(checked).code).toBe(NvmeStatus.invalidProtectionInformation);
    // DEAC deallocates.
    expect(made.run({ ...zero, cdw12: (1 << 25) | 3 }).code).toBe(0);
    expect(made.io(NvmOpcode.read, 4, { prinfo: all }).code).toBe(0);
    expect(made.host.bytes(BACK_META, 32).every((byte) => byte === 0xff)).toBe(true);
  });
});

describe("metadata without protection information", () => {
  it.each([false, true])("travels, extended %s", (extended) => {
    const made = ready({ piType: 0, metadataBytes: 64, extended });
    const { host } = made;
    const stride = extended ? LBA + 64 : LBA;
    new Prng(1).fill(host.bytes(0, 20 * stride));
    new Prng(2).fill(host.bytes(META, 20 * 64));
    expect(made.io(NvmOpcode.write, 20).code).toBe(0);
    const compare = { opcode: NvmOpcode.compare, cdw10: SLBA, cdw12: 19 };
    const buffers = { prp1: host.data(), mptr: host.data(META) };
    const list = viewOf(host.bytes(6 * MIB, 64));
    for (let i = 0; i < 4; i++) {
      list.setUint32(i * 8, host.data((i + 1) * 4096) >>> 0, true);
      list.setUint32(i * 8 + 4, 1, true);
    }
    const command = { ...compare, ...buffers, prp2: host.data(6 * MIB) };
    expect(made.run(command).code).toBe(0);
    const at = extended ? 19 * stride + LBA + 63 : META + 20 * 64 - 1;
    const victim = host.bytes(at, 1);
    victim[0] = (victim[0] as number) ^ 1;
    expect(made.run(command).code).toBe(NvmeStatus.compareFailure);
  });

  it("may be described by an SGL", () => {
    const made = ready({ piType: 0, metadataBytes: 64 });
    const { host } = made;
    const data = new Prng(1);
    data.fill(host.bytes(0, LBA));
    data.fill(host.bytes(META, 64));
    const metadataSgl = viewOf(host.bytes(7 * MIB - 4096, 16));
    spec.setSgl(metadataSgl, 0, host.data(META), 64, 0);
    const sgl = { address: host.data(), length: LBA, type: 0 };
    const write = { opcode: NvmOpcode.write, psdt: 2, sgl, mptr: host.data(7 * MIB - 4096) };
    expect(made.run(write).code).toBe(0);
    const read = { opcode: NvmOpcode.read, prp1: host.data(BACK), mptr: host.data(BACK_META) };
    expect(made.run(read).code).toBe(0);
    expect(Buffer.compare(host.bytes(BACK_META, 64), host.bytes(META, 64))).toBe(0);
    spec.setSgl(metadataSgl, 0, host.data(META), 63, 0);
    expect(made.run(write).code).toBe(NvmeStatus.metadataSglLengthInvalid);
    expect(made.run({ ...read, mptr: host.data(BACK_META + 2) }).code).toBe(
      NvmeStatus.invalidField,
    );
    const odd = { ...write, psdt: 1, mptr: host.data(META + 1) };
    expect(made.run(odd).code).toBe(0);
  });
});

describe("Compare and Copy with protection information", () => {
  const checks = PRCHK_GUARD | PRCHK_REF;

  it("Compare checks protection information and compares the rest", () => {
    const made = ready({ piType: 1, metadataBytes: 64 });
    prepare(made, 4, { app: 0x1234, ref: SLBA });
    expect(made.io(NvmOpcode.write, 4, { prinfo: checks }).code).toBe(0);
    expect(made.io(NvmOpcode.compare, 4, { prinfo: checks }).code).toBe(0);
    expect(made.io(NvmOpcode.compare, 4, { prinfo: PRACT }).code).toBe(
      NvmeStatus.invalidProtectionInformation,
    );
    const pi = made.host.bytes(META + 3 * 64 + 58, 1);
    pi[0] = (pi[0] as number) ^ 1;
    expect(made.io(NvmOpcode.compare, 4, { prinfo: checks }).code).toBe(0);
    const other = made.host.bytes(META + 3 * 64 + 50, 1);
    other[0] = (other[0] as number) ^ 1;
    expect(made.io(NvmOpcode.compare, 4, { prinfo: checks }).code).toBe(NvmeStatus.compareFailure);
  });

  it("Copy makes new reference tags with PRACT, and finds wrong ones without", () => {
    const made = ready({ piType: 1 });
    const { host } = made;
    prepare(made, 4, { app: 0x1234, ref: SLBA });
    expect(made.io(NvmOpcode.write, 4, { prinfo: checks }).code).toBe(0);
    const range = viewOf(host.bytes(4 * MIB, 32));
    spec.CopyRange0.SLBA.set(range, SLBA);
    spec.CopyRange0.NLB.set(range, 3);
    spec.CopyRange0.ELBRT.set(range, SLBA);
    const copy = (prinfor: number, prinfow: number, ref: number) =>
      made.run({
        opcode: NvmOpcode.copy,
        prp1: host.data(4 * MIB),
        cdw10: 900,
        cdw12: ((prinfow << 26) | (prinfor << 12)) >>> 0,
        cdw14: ref,
        cdw15: 0xffff_1234,
      });
    const plain = copy(checks, PRCHK_REF, 900);
    expect([plain.code, plain.result]).toEqual([NvmeStatus.referenceTagCheckError, 0]);
    expect(copy(checks, PRACT, 900).code).toBe(0);
    const read = made.io(NvmOpcode.read, 4, { prinfo: checks, slba: 900, ref: 900 });
    expect(read.code).toBe(0);
    spec.CopyRange0.ELBRT.set(range, SLBA + 1);
    expect(copy(checks, PRACT, 900).code).toBe(NvmeStatus.invalidProtectionInformation);
  });
});
