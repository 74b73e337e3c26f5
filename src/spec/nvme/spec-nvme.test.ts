import { describe, expect, it } from "vitest";
import { decodeLayout, type RegisterDef, viewOf } from "../../core/index.ts";
import * as spec from "./index.ts";

/** Offsets and sizes as published, so that a slip in a table is caught by a second source. */
describe("published layouts", () => {
  it("puts Identify Controller fields where section 5.17.2.1 does", () => {
    const at = (name: keyof typeof spec.IdCtrl): number => spec.IdCtrl[name].offset;
    expect([at("MDTS"), at("CNTLID"), at("VER"), at("OACS"), at("LPA")]).toEqual([
      77, 78, 80, 256, 261,
    ]);
    expect([at("SQES"), at("CQES"), at("NN"), at("ONCS"), at("VWC")]).toEqual([
      512, 513, 516, 520, 525,
    ]);
    expect([at("SGLS"), at("SUBNQN"), at("IOCCSZ"), at("PSD"), at("VS")]).toEqual([
      536, 768, 1792, 2048, 3072,
    ]);
  });

  it("puts Identify Namespace fields where NVM Command Set 4.1.5.1 does", () => {
    const at = (name: keyof typeof spec.IdNs): number => spec.IdNs[name].offset;
    expect([at("FLBAS"), at("DPS"), at("DLFEAT"), at("MSSRL"), at("MCL"), at("MSRC")]).toEqual([
      26, 29, 33, 74, 76, 80,
    ]);
    expect([at("NGUID"), at("EUI64"), at("LBAF")]).toEqual([104, 120, 128]);
  });

  it("has structures of the published sizes", () => {
    const sizes = [
      spec.IDENTIFY_CONTROLLER,
      spec.IDENTIFY_NAMESPACE,
      spec.ERROR_LOG_ENTRY,
      spec.SMART_LOG,
      spec.FIRMWARE_SLOT_LOG,
      spec.DSM_RANGE,
      spec.COPY_RANGE_0,
      spec.COPY_RANGE_1,
      spec.ANA_HEADER,
      spec.ANA_GROUP,
      spec.RESERVATION_KEYS,
      spec.REGISTERED_CONTROLLER_EXTENDED,
    ].map(({ sizeBytes }) => sizeBytes);
    expect(sizes).toEqual([4096, 4096, 64, 512, 512, 16, 32, 40, 16, 32, 16, 64]);
    expect(spec.Smart.TEMPERATURE.offset).toBe(1);
    expect(spec.Smart.ERROR_ENTRIES.offset).toBe(176);
  });

  it("has registers at the published offsets", () => {
    const named = new Map<string, RegisterDef>(
      spec.NVME_REGISTERS.registers.map((register) => [register.name, register]),
    );
    const offset = (name: string): number | undefined => named.get(name)?.offset;
    expect(offset("CC")).toBe(0x14);
    expect(offset("CSTS")).toBe(0x1c);
    expect(offset("AQA")).toBe(0x24);
    expect(offset("CMBLOC")).toBe(0x38);
    expect(offset("CMBMSC.lo")).toBe(0x50);
    expect(offset("CRTO")).toBe(0x68);
    expect(offset("PMRCAP")).toBe(0xe00);
    expect(offset("PMRMSCU")).toBe(0xe18);
    const offsets = [...named.values()].map((register) => register.offset);
    expect(new Set(offsets).size).toBe(offsets.length);
    expect([...offsets].sort((a, b) => a - b)).toEqual(offsets);
  });
});

describe("doorbells", () => {
  it("lie where the PCIe transport says, for every stride", () => {
    expect(spec.sqTailDoorbell(0, 0)).toBe(0x1000);
    expect(spec.cqHeadDoorbell(0, 0)).toBe(0x1004);
    expect(spec.sqTailDoorbell(3, 0)).toBe(0x1018);
    expect(spec.cqHeadDoorbell(3, 2)).toBe(0x1000 + 7 * 16);
    expect(spec.doorbellsEnd(1, 0)).toBe(0x1010);
  });
});

describe("Controller Memory Buffer sizes", () => {
  it("decode with their unit", () => {
    const cmbsz = spec.CMBSZ_SZ.set(spec.CMBSZ_SZU.set(0, 2), 64);
    expect(spec.cmbSizeBytes(cmbsz)).toBe(64 * 1024 * 1024);
    expect(spec.cmbOffsetBytes(spec.CMBLOC_OFST.set(2, 3), cmbsz)).toBe(3 * 1024 * 1024);
    expect(spec.cmbSizeBytes(0)).toBe(0);
    const huge = spec.CMBSZ_SZ.set(spec.CMBSZ_SZU.set(0, 6), 0xfffff);
    expect(spec.cmbSizeBytes(huge)).toBe(0xfffff * 2 ** 36);
  });
});

describe("status", () => {
  it("packs as the completion entry does", () => {
    const status = spec.NvmeStatus.lbaOutOfRange | spec.STATUS_DNR;
    const word = spec.packCqeStatus(0x1234, status, 1);
    expect(spec.CQE_CID.get(word)).toBe(0x1234);
    expect(spec.CQE_PHASE.get(word)).toBe(1);
    expect(spec.CQE_STATUS.get(word)).toBe(status);
    // DNR is bit 31 of dword 3, SC bits 24:17 (Base 2.0, figure "Status Field Definition").
    expect(word >>> 31).toBe(1);
    expect((word >>> 17) & 0xff).toBe(0x80);
  });

  it("has names", () => {
    expect(spec.formatStatus(spec.NvmeStatus.prpOffsetInvalid | spec.STATUS_DNR)).toBe(
      "Prp Offset Invalid (SCT 0, SC 0x13), do not retry",
    );
    expect(spec.formatStatus(0x7c0)).toBe("vendor specific status (SCT 7, SC 0xc0)");
    const values = Object.values(spec.NvmeStatus);
    expect(new Set(values).size).toBe(values.length);
    expect(spec.statusSct(spec.NvmeStatus.guardCheckError)).toBe(spec.Sct.mediaError);
  });

  it("opcodes have names and directions", () => {
    expect(spec.adminOpcodeName(6)).toBe("identify");
    expect(spec.nvmOpcodeName(1)).toBe("write");
    expect(spec.nvmOpcodeName(0x99)).toBe("nvm 0x99");
    expect(spec.adminOpcodeName(0x99)).toBe("admin 0x99");
    expect(spec.dataDirection(spec.NvmOpcode.write)).toBe(spec.DataDirection.hostToController);
    expect(spec.dataDirection(spec.NvmOpcode.read)).toBe(spec.DataDirection.controllerToHost);
    expect(spec.dataDirection(spec.AdminOpcode.identify)).toBe(2);
  });
});

describe("Identify text", () => {
  it("is padded with blanks, the NQN with NULs", () => {
    const { bytes, view } = spec.allocateStruct(spec.IDENTIFY_BYTES);
    spec.IdCtrl.SN.set(view, "PL1");
    spec.IdCtrl.SUBNQN.set(view, "nqn.2026-11.org.peerlane:x");
    expect(bytes[4 + 3]).toBe(0x20);
    expect(bytes[768 + 30]).toBe(0);
    expect(spec.IdCtrl.SN.get(view)).toBe("PL1");
    const decoded = decodeLayout(spec.IDENTIFY_CONTROLLER.layout, bytes);
    expect(decoded["SN"]).toBe("PL1");
    expect(decoded["SUBNQN"]).toBe("nqn.2026-11.org.peerlane:x");
  });

  it("carries LBA formats and namespace descriptors", () => {
    const { bytes, view } = spec.allocateStruct(spec.IDENTIFY_BYTES);
    spec.setLbaFormat(view, 3, 12, 8, 1);
    const format = spec.getLbaFormat(view, 3);
    expect(spec.LBAF_LBADS.get(format)).toBe(12);
    expect(spec.LBAF_MS.get(format)).toBe(8);
    expect(spec.flbasIndex(0x23)).toBe(0x13);
    bytes.fill(0);
    const nguid = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    const next = spec.setNsDescriptor(bytes, 0, spec.Nidt.nguid, nguid);
    spec.setNsDescriptor(bytes, next, spec.Nidt.csi, Uint8Array.of(0));
    expect(spec.parseNsDescriptors(bytes)).toEqual([
      { nidt: 2, nid: nguid },
      { nidt: 4, nid: Uint8Array.of(0) },
    ]);
  });
});

describe("Get Log Page dwords", () => {
  it("carry lengths above 256 KiB", () => {
    for (const size of [4, 512, 4096, 262_144, 262_148, 1_048_576]) {
      const cdw10 = spec.packLogCdw10(spec.LogPage.smart, size, 1);
      expect(spec.logBytes(cdw10, spec.packLogCdw11(size))).toBe(size);
      expect(spec.LOG_RAE.get(cdw10)).toBe(1);
      expect(spec.LOG_LID.get(cdw10)).toBe(2);
    }
  });
});

describe("PRP", () => {
  it("counts entries", () => {
    expect(spec.prpCount(0, 4096, 4096)).toBe(1);
    expect(spec.prpCount(4, 4096, 4096)).toBe(2);
    expect(spec.prpCount(2 ** 45 + 4092, 4, 4096)).toBe(1);
    expect(spec.prpCount(0x1000, 1024 * 1024, 4096)).toBe(256);
  });
});

describe("views", () => {
  it("of keyed SGL descriptors keep 24 bits of length and the key apart", () => {
    const bytes = new Uint8Array(32);
    const view = viewOf(bytes);
    spec.setKeyedSgl(view, 16, 0x12_3456_7890, 0xabcdef, 0xdeadbeef, spec.SglSubtype.invalidateKey);
    expect(spec.sglAddress(view, 16)).toBe(0x12_3456_7890);
    expect(spec.sglKeyedLength(view, 16)).toBe(0xabcdef);
    expect(spec.sglKey(view, 16)).toBe(0xdeadbeef);
    expect(spec.sglType(view, 16)).toBe(spec.SglType.keyedDataBlock);
    expect(spec.sglSubtype(view, 16)).toBe(0xf);
    expect(bytes[31]).toBe(0x4f);
  });
});
