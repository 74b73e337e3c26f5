import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NVMET_SGL_DESCRIPTORS_MAX } from "../core/index.ts";
import { NvmeStatus, STATUS_DNR } from "../spec/nvme/index.ts";
import { SglId, setKeyedSgl, setOffsetSgl } from "../spec/nvmf/index.ts";
import { parseCapsule } from "./parse.hot.ts";
import { plainRequest } from "./request.hot.ts";

const CAPSULE = 64 + 512;
const SGL1 = 24;
const WRITE = 1;
const READ = 2;
const DNR = STATUS_DNR;

function parsed(bytes: number, fill: (view: DataView, capsule: Uint8Array) => void) {
  const request = plainRequest(0, CAPSULE);
  request.view.setUint8(0, WRITE);
  request.view.setUint8(1, 0x40);
  fill(request.view, request.capsule);
  request.begin(bytes);
  return { request, status: parseCapsule(request) };
}

describe("parsing a capsule", () => {
  it("never leaves the capsule or its arrays, whatever the bytes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: CAPSULE, maxLength: CAPSULE }),
        fc.integer({ min: 0, max: CAPSULE }),
        fc.constantFrom(0x00, 0x01, 0x31, 0x40, 0x4f, 0x55),
        fc.boolean(),
        (noise, bytes, id, isSgl) => {
          const { request, status } = parsed(bytes, (view, capsule) => {
            capsule.set(noise);
            view.setUint8(SGL1 + 15, id);
            if (isSgl) view.setUint8(1, 0x40);
          });
          if (status !== NvmeStatus.success) {
            expect(status & DNR).toBe(DNR);
            return;
          }
          expect(request.remoteCount).toBeLessThanOrEqual(NVMET_SGL_DESCRIPTORS_MAX);
          const sum = request.remoteLengths
            .subarray(0, request.remoteCount)
            .reduce((total, length) => total + length, 0);
          if (request.inCapsuleOffset >= 0) {
            expect(request.inCapsuleOffset + request.sglBytes).toBeLessThanOrEqual(bytes);
            expect(request.isInbound).toBe(true);
          } else expect(request.sglBytes).toBe(sum);
        },
      ),
      { seed: 21, numRuns: 500 },
    );
  });

  it("reads lists, and the last key to invalidate", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            address: fc.maxSafeNat(),
            length: fc.integer({ min: 1, max: 0xffffff }),
            key: fc.nat(0xffffffff),
            invalidate: fc.boolean(),
          }),
          { minLength: 1, maxLength: NVMET_SGL_DESCRIPTORS_MAX },
        ),
        (segments) => {
          const bytes = 64 + segments.length * 16;
          const { request, status } = parsed(bytes, (view) => {
            setOffsetSgl(view, SGL1, 0, segments.length * 16, SglId.offsetLastSegment);
            for (const [i, { address, length, key, invalidate }] of segments.entries()) {
              setKeyedSgl(view, 64 + i * 16, address, length, key, invalidate);
            }
          });
          expect(status).toBe(0);
          expect(Array.from(request.remoteKeys.subarray(0, request.remoteCount))).toEqual(
            segments.map(({ key }) => key),
          );
          expect(request.remoteAddresses[0]).toBe(segments[0]?.address);
          const last = segments.filter(({ invalidate }) => invalidate).at(-1);
          expect(request.wantsInvalidate).toBe(last !== undefined);
          if (last !== undefined) expect(request.invalidateKey).toBe(last.key);
        },
      ),
      { seed: 22, numRuns: 100 },
    );
  });

  it.each([
    ["a capsule that is too short", 63, () => undefined, NvmeStatus.invalidField],
    ["PRPs", 64, (view: DataView) => view.setUint8(1, 0), NvmeStatus.invalidField],
    ["FUSE 11b", 64, (view: DataView) => view.setUint8(1, 0x43), NvmeStatus.invalidField],
    [
      "an address beyond 2^53",
      64,
      (view: DataView) => {
        setKeyedSgl(view, SGL1, 0, 4096, 1, false);
        view.setUint32(SGL1 + 4, 0x20_0000, true);
      },
      NvmeStatus.invalidField,
    ],
    [
      "a list in host memory",
      64,
      (view: DataView) => setOffsetSgl(view, SGL1, 0, 32, 0x30),
      NvmeStatus.sglDescriptorTypeInvalid,
    ],
    [
      "data beyond the capsule",
      128,
      (view: DataView) => setOffsetSgl(view, SGL1, 1, 64, SglId.offsetData),
      NvmeStatus.sglOffsetInvalid,
    ],
    [
      "a list of half a descriptor",
      128,
      (view: DataView) => setOffsetSgl(view, SGL1, 0, 24, SglId.offsetLastSegment),
      NvmeStatus.invalidSglSegmentDescriptor,
    ],
    [
      "a list that is too long",
      CAPSULE,
      (view: DataView) => setOffsetSgl(view, SGL1, 0, 17 * 16, SglId.offsetLastSegment),
      NvmeStatus.invalidNumberOfSglDescriptors,
    ],
    [
      "in-capsule data of a read",
      128,
      (view: DataView) => {
        view.setUint8(0, READ);
        setOffsetSgl(view, SGL1, 0, 64, SglId.offsetData);
      },
      NvmeStatus.invalidField,
    ],
  ] as const)("refuses %s", (_, bytes, fill, status) => {
    expect(parsed(bytes, fill).status).toBe(status | DNR);
  });

  it("takes the direction of fabrics commands from FCTYPE", () => {
    const connect = parsed(64, (view) => {
      view.setUint8(0, 0x7f);
      view.setUint8(4, 1);
      setKeyedSgl(view, SGL1, 0x1000, 1024, 5, false);
    });
    expect(connect.request.isInbound).toBe(true);
    expect(connect.request.sglBytes).toBe(1024);
    const get = parsed(64, (view) => {
      view.setUint8(0, 0x7f);
      view.setUint8(4, 4);
    });
    expect(get.request.isInbound).toBe(false);
  });
});
