import { describe, expect, it } from "vitest";
import {
  makeNvme,
  type RawNvmeHost,
  type TestNvmeOptions,
} from "../../../../testing/nvme-raw-host.ts";
import * as spec from "../../../spec/nvme/index.ts";

const MIB = 1024 * 1024;
const { Reg } = spec;

function make(options: TestNvmeOptions = {}) {
  const made = makeNvme(options);
  return { ...made, registers: made.host.registers };
}

describe("capabilities", () => {
  it("say what the options say", () => {
    const { registers } = make({ maxEntries: 256, dstrd: 2 });
    expect(spec.CAP_MQES.get(registers.read32(Reg.capLo))).toBe(255);
    expect(spec.CAP_CQR.get(registers.read32(Reg.capLo))).toBe(1);
    expect(spec.CAP_DSTRD.get(registers.read32(Reg.capHi))).toBe(2);
    expect(spec.CAP_CMBS.get(registers.read32(Reg.capHi))).toBe(0);
    expect(registers.read32(Reg.vs)).toBe(spec.VERSION_2_0);
    expect(spec.CRTO_CRWMT.get(registers.read32(Reg.crto))).toBeGreaterThan(0);
  });

  it("are read-only, and unknown offsets read zero", () => {
    const { registers } = make();
    const before = registers.read32(Reg.capLo);
    registers.write32(Reg.capLo, 0);
    registers.write32(Reg.vs, 0xffff_ffff);
    registers.write32(0x70, 1);
    expect(registers.read32(Reg.capLo)).toBe(before);
    expect(registers.read32(0x70)).toBe(0);
    expect(registers.read32(Reg.intms)).toBe(0);
    expect(registers.read32(0xffc)).toBe(0);
  });
});

describe("CC and CSTS", () => {
  it("enable with an admin queue makes the controller ready", () => {
    const { host, registers } = make();
    expect(host.enable()).toBe(1);
    registers.write32(Reg.cc, 0x0046_0000);
    expect(registers.read32(Reg.csts)).toBe(0);
    expect(registers.read32(Reg.asqLo)).toBe(host.admin.sqAddress >>> 0);
    expect(host.enable()).toBe(1);
  });

  it("takes its time when it is told to", () => {
    const { host, registers, port } = make({ readyDelayNs: 5000 });
    expect(host.enable()).toBe(0);
    port.advance(4999);
    expect(registers.read32(Reg.csts)).toBe(0);
    port.advance(1);
    expect(registers.read32(Reg.csts)).toBe(1);
  });

  it("an enable that was taken back does not become ready later", () => {
    const { host, registers, port } = make({ readyDelayNs: 5000 });
    host.enable();
    registers.write32(Reg.cc, 0);
    port.advance(5000);
    expect(registers.read32(Reg.csts)).toBe(0);
  });

  const impossible: [string, (registers: RawNvmeHost["registers"]) => number][] = [
    ["a page size above MPSMAX", () => 0x0046_0001 | (9 << 7)],
    ["weighted round robin", () => 0x0046_0001 | (1 << 11)],
    ["a command set that is reserved", () => 0x0046_0001 | (3 << 4)],
    ["entries of 128 bytes", () => 0x0047_0001],
    [
      "an admin queue of one entry",
      (registers) => {
        registers.write32(Reg.aqa, 0);
        return 0x0046_0001;
      },
    ],
    [
      "an admin queue beyond 2^52",
      (registers) => {
        registers.write32(Reg.asqHi, 0x0010_0000);
        return 0x0046_0001;
      },
    ],
    [
      "an admin queue that does not start a page of 64 KiB",
      (registers) => {
        registers.write32(Reg.asqLo, 0x1000);
        return 0x0046_0001 | (4 << 7);
      },
    ],
  ];
  it.each(impossible)("%s is fatal", (_name, prepare) => {
    const { host, registers } = make();
    host.setAdminQueue();
    registers.write32(Reg.cc, prepare(registers));
    expect(registers.read32(Reg.csts)).toBe(2);
    registers.write32(Reg.cc, 0);
    expect(registers.read32(Reg.csts)).toBe(0);
    expect(host.enable()).toBe(1);
  });

  it("shutdown completes and stops the controller", () => {
    const { host, registers, port } = make();
    host.enable();
    registers.write32(Reg.cc, spec.CC_SHN.set(0x0046_0001, spec.Shn.normal));
    expect(spec.CSTS_SHST.get(registers.read32(Reg.csts))).toBe(spec.Shst.complete);
    host.write(host.admin, { opcode: spec.AdminOpcode.identify });
    host.ring(host.admin);
    expect(port.woken).toBe(false);
    registers.write32(Reg.cc, 0);
    expect(host.enable()).toBe(1);
  });

  it("NSSR resets the subsystem and says so until told to forget", () => {
    const { host, registers } = make();
    host.enable();
    registers.write32(Reg.nssr, 0x1234);
    expect(registers.read32(Reg.csts)).toBe(1);
    registers.write32(Reg.nssr, spec.NSSR_RESET);
    expect(registers.read32(Reg.csts)).toBe(0x10);
    expect(registers.read32(Reg.cc)).toBe(0);
    expect(host.enable()).toBe(0x11);
    registers.write32(Reg.csts, 0x10);
    expect(registers.read32(Reg.csts)).toBe(1);
  });

  it("a function level reset clears the admin queue registers", () => {
    const { host, registers, model } = make();
    host.enable();
    model.reset();
    expect(registers.read32(Reg.cc)).toBe(0);
    expect(registers.read32(Reg.csts)).toBe(0);
    expect(registers.read32(Reg.aqa)).toBe(0);
    expect(registers.read32(Reg.asqLo)).toBe(0);
  });

  it("a fetch that the bus refuses is fatal", () => {
    const { host, registers, port } = make();
    host.enable();
    port.refuse(host.admin.sqAddress, 64);
    host.write(host.admin, { opcode: spec.AdminOpcode.identify });
    host.ring(host.admin);
    host.settle();
    expect(spec.CSTS_CFS.get(registers.read32(Reg.csts))).toBe(1);
    port.accept();
    host.ring(host.admin, 0);
    expect(port.woken).toBe(false);
  });

  it("a completion that the bus refuses is fatal, one that it drops is not noticed", () => {
    for (const [status, fatal] of [
      [1, 1],
      [7, 0],
    ] as const) {
      const { host, registers, port } = make();
      host.enable();
      port.refuse(host.admin.cqAddress, 16, status);
      host.write(host.admin, { opcode: spec.AdminOpcode.keepAlive });
      host.ring(host.admin);
      host.settle();
      expect(spec.CSTS_CFS.get(registers.read32(Reg.csts))).toBe(fatal);
    }
  });
});

describe("Controller Memory Buffer", () => {
  const cmb = { bar: 2, offset: 64 * 1024, sizeBytes: 2 * MIB };

  it("shows CMBLOC and CMBSZ once CMBMSC.CRE is set", () => {
    const { registers, model } = make({ cmb });
    expect(spec.CAP_CMBS.get(registers.read32(Reg.capHi))).toBe(1);
    expect(registers.read32(Reg.cmbsz)).toBe(0);
    expect(registers.read32(Reg.cmbloc)).toBe(0);
    registers.write32(Reg.cmbmscLo, 1);
    const cmbsz = registers.read32(Reg.cmbsz);
    const cmbloc = registers.read32(Reg.cmbloc);
    expect(spec.cmbSizeBytes(cmbsz)).toBe(2 * MIB);
    expect(spec.cmbOffsetBytes(cmbloc, cmbsz)).toBe(64 * 1024);
    expect(spec.CMBLOC_BIR.get(cmbloc)).toBe(2);
    expect(spec.CMBSZ_WDS.get(cmbsz) + spec.CMBSZ_RDS.get(cmbsz)).toBe(2);
    const region = model.barRegions()[1];
    expect(region).toMatchObject({ bar: 2, offset: 64 * 1024, sizeBytes: 2 * MIB });
    registers.write32(Reg.cmbmscLo, 0);
    expect(registers.read32(Reg.cmbsz)).toBe(0);
  });

  it("places itself where CBA says, and reports a base that cannot be", () => {
    const { registers, model } = make({ cmb });
    registers.write32(Reg.cmbmscHi, 0x12);
    registers.write32(Reg.cmbmscLo, 0x3456_7003);
    expect(model.memory.cmb.start).toBe(0x12_3456_7000);
    expect(registers.read32(Reg.cmbsts)).toBe(0);
    registers.write32(Reg.cmbmscHi, 0xffff_ffff);
    expect(registers.read32(Reg.cmbsts)).toBe(1);
    expect(model.memory.cmb.enabled).toBe(false);
    registers.write32(Reg.cmbmscHi, 0x12);
    expect(registers.read32(Reg.cmbsts)).toBe(0);
    model.reset();
    expect(registers.read32(Reg.cmbmscLo)).toBe(0);
    expect(model.memory.cmb.enabled).toBe(false);
  });

  it("keeps CMBMSC over a controller reset", () => {
    const { registers, host, model } = make({ cmb });
    registers.write32(Reg.cmbmscLo, 0x3456_7003);
    host.enable();
    registers.write32(Reg.cc, 0);
    expect(registers.read32(Reg.cmbmscLo)).toBe(0x3456_7003);
    expect(model.memory.cmb.enabled).toBe(true);
  });

  it("of before 1.4 is always visible and known by its BAR", () => {
    const { registers, model } = make({ cmb: { ...cmb, legacy: true } });
    expect(spec.CAP_CMBS.get(registers.read32(Reg.capHi))).toBe(0);
    expect(registers.read32(Reg.vs)).toBe(spec.VERSION_1_3);
    expect(spec.cmbSizeBytes(registers.read32(Reg.cmbsz))).toBe(2 * MIB);
    registers.write32(Reg.cmbmscLo, 3);
    expect(registers.read32(Reg.cmbmscLo)).toBe(0);
    model.barMoved(2, 0xc000_0000);
    expect(model.memory.cmb.start).toBe(0xc001_0000);
    model.barMoved(2, -1);
    expect(model.memory.cmb.enabled).toBe(false);
  });

  it("of more than 4 GiB uses a larger unit", () => {
    const { registers } = make({ cmb: { bar: 4, offset: 0, sizeBytes: 64 * 1024 * MIB } });
    registers.write32(Reg.cmbmscLo, 1);
    expect(spec.cmbSizeBytes(registers.read32(Reg.cmbsz))).toBe(64 * 1024 * MIB);
  });
});

describe("Persistent Memory Region", () => {
  it("is enabled by PMRCTL, placed by PMRMSC, and kept over resets", () => {
    const { registers, model, host } = make({ pmr: { bar: 4, sizeBytes: 4 * MIB } });
    expect(spec.CAP_PMRS.get(registers.read32(Reg.capHi))).toBe(1);
    expect(spec.PMRCAP_BIR.get(registers.read32(Reg.pmrcap))).toBe(4);
    expect(spec.PMRSTS_NRDY.get(registers.read32(Reg.pmrsts))).toBe(1);
    registers.write32(Reg.pmrctl, 1);
    expect(spec.PMRSTS_NRDY.get(registers.read32(Reg.pmrsts))).toBe(0);
    registers.write32(Reg.pmrmscu, 1);
    registers.write32(Reg.pmrmscl, 0x4000_0002);
    expect(model.memory.pmr.start).toBe(0x1_4000_0000);
    const memory = model.memory.pmr.memory;
    memory?.write(100, Uint8Array.of(7), 0, 1);
    host.enable();
    registers.write32(Reg.cc, 0);
    expect(registers.read32(Reg.pmrctl)).toBe(1);
    model.reset();
    expect(registers.read32(Reg.pmrctl)).toBe(0);
    const byte = new Uint8Array(1);
    model.barRegions()[1]?.memory?.read(100, byte, 0, 1);
    expect(byte[0]).toBe(7);
  });

  it("reads zeros where there is none", () => {
    const { registers } = make();
    registers.write32(Reg.pmrctl, 1);
    for (let at = Reg.pmrcap; at <= Reg.pmrmscu; at += 4) expect(registers.read32(at)).toBe(0);
  });
});

describe("options", () => {
  it("that no controller could have are refused with a remedy", () => {
    const bad: TestNvmeOptions[] = [
      { maxEntries: 1 },
      { dstrd: 16 },
      { namespaces: [{ sizeBytes: 100 }] },
      { namespaces: [{ sizeBytes: MIB, lbaBytes: 520 }] },
      { namespaces: [{ sizeBytes: MIB, piType: 1 }] },
      { namespaces: [{ sizeBytes: MIB, metadataBytes: 8, piType: 4 }] },
      { cmb: { bar: 0, offset: 0, sizeBytes: MIB } },
      { cmb: { bar: 2, offset: 0, sizeBytes: 1000 } },
      { pmr: { bar: 4, sizeBytes: 3 * MIB } },
      { faults: { seed: 1, rules: [{ opcode: 1 }] } },
    ];
    for (const options of bad) {
      expect(() => make(options), JSON.stringify(options)).toThrow(
        expect.objectContaining({ exitStatus: 2, remedy: expect.any(String) }),
      );
    }
  });
});

describe("inspect", () => {
  it("shows registers by field and queues", () => {
    const { host, model } = make({ cmb: { bar: 2, offset: 0, sizeBytes: MIB } });
    host.enable();
    host.createQueue(1, 16);
    const tree = model.inspect();
    expect(tree["registers"]).toMatchObject({ CC: { EN: 1, IOSQES: 6 }, CSTS: { RDY: 1 } });
    expect(tree["queues"]).toMatchObject([{ qid: 0 }, { qid: 1, entries: 16 }]);
    expect(tree["cmb"]).toMatchObject({ sizeBytes: MIB, controllerAddress: null });
  });
});
