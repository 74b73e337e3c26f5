import { expect, it } from "vitest";
import { viewOf } from "../../core/index.ts";
import { ErrorLog, NvmeStatus, NvmOpcode, SqeOffset, STATUS_DNR } from "../../spec/nvme/index.ts";
import { SglId, TransportType } from "../../spec/nvmf/index.ts";
import { plainRequest } from "../request.hot.ts";
import { ErrorInformation } from "./error-log.ts";

const DNR = STATUS_DNR;
const NONE = 0xffff;
const PSDT_SGL = 0x40;
const FIRST_LBA = 0x12_3456_789a;

/** The entry of a command with these flags and SGL that was answered with `status`. */
function entry(status: number, opcode: number, isIo = true, flags = PSDT_SGL, sgl = 0) {
  const request = plainRequest(0, 64);
  const { view } = request;
  view.setUint8(SqeOffset.flags, flags);
  view.setUint8(SqeOffset.sgl1 + 15, sgl);
  view.setBigUint64(SqeOffset.cdw10, BigInt(FIRST_LBA), true);
  request.opcode = opcode;
  request.isIo = isIo;
  request.status = status;
  const errors = new ErrorInformation();
  errors.record(1, request, TransportType.TCP);
  const page = viewOf(errors.page());
  const { LOCATION, TRTYPE, LBA } = ErrorLog;
  return [LOCATION.get(page), TRTYPE.get(page), LBA.get(page)];
}

const { read, datasetManagement } = NvmOpcode;

it.each<[string, ReturnType<typeof entry>, number[]]>([
  ["a reserved FUSE", entry(NvmeStatus.invalidField | DNR, read, true, 0x43), [1, 0, FIRST_LBA]],
  ["PSDT, bit 6", entry(NvmeStatus.invalidField | DNR, read, true, 0), [0x601, 0, FIRST_LBA]],
  [
    "data in the capsule of a read",
    entry(NvmeStatus.invalidField | DNR, read, true, PSDT_SGL, SglId.offsetData),
    [39, 0, FIRST_LBA],
  ],
  ["more than MDTS", entry(NvmeStatus.invalidField | DNR, read), [48, 0, FIRST_LBA]],
  ["an SGL's type", entry(NvmeStatus.sglDescriptorTypeInvalid | DNR, read), [39, 0, FIRST_LBA]],
  ["a range inside data", entry(NvmeStatus.lbaOutOfRange | DNR, datasetManagement), [NONE, 0, 0]],
  ["a CNS", entry(NvmeStatus.invalidField | DNR, 6, false), [40, 0, 0]],
  ["a log page", entry(NvmeStatus.invalidLogPage | DNR, 2, false), [40, 0, 0]],
  [
    "data that was damaged on its way: the transport, and no field",
    entry(NvmeStatus.transientTransportError, read),
    [NONE, TransportType.TCP, FIRST_LBA],
  ],
  ["nothing it knows", entry(NvmeStatus.internalError, read), [NONE, 0, FIRST_LBA]],
])("an entry names %s", (_, got, wanted) => {
  expect(got).toEqual(wanted);
});
