/**
 * Protection information of types 1 to 3 when the payload is peer memory: who makes it, and who
 * notices damage. The tuples are read on the medium and compared with what the data asks for; then
 * a bit of the medium is flipped, and the next read must fail.
 *
 * Where the controller can insert (PRACT: metadata is protection information alone) it does, for
 * all descriptions alike. Where it cannot (64 bytes of metadata) it is the CPU's work, for memory
 * that the description can lend to it; peer memory is refused, never sent without.
 */

import { BioOp, BlockStatus, blockStatusName } from "../../block/index.ts";
import type { Bdf } from "../../core/index.ts";
import type { Machine } from "../../machine/index.ts";
import { SUBSECTION_BYTES } from "../../memory/index.ts";
import { crc16T10, getGuard, getRefTag, PI_BYTES, PiType } from "../../spec/nvme/index.ts";
import { type Cell, cellOf, no, type WorksColumn, yes } from "./cell.ts";
import { type CompareDescription, type Handle, openDescription } from "./descriptions.ts";
import { openHostMemory } from "./host-handles.ts";
import type { CompareSubject } from "./setup.ts";
import { patternBytes, StackSetup } from "./stack-setup.ts";

const BLOCK = 512;
const BLOCKS = 16;
const BYTES = BLOCK * BLOCKS;
/** LBA of the I/O: not 0, so that a reference tag of zero is wrong. */
const FIRST_LBA = 40;
/** Metadata of which protection information is a part only. */
const WIDE_METADATA = 64;

interface Case {
  readonly kind: CompareDescription;
  readonly piType: number;
  readonly metadataBytes: number;
  readonly memory: "peer" | "host";
}

/** The columns, for machines with a leg by bus. */
export function protectionColumns(
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
): WorksColumn[] {
  const [leg] = legs;
  if (leg === undefined) return [];
  const column = (name: string, what: string, rest: Omit<Case, "kind">): WorksColumn => ({
    name,
    what,
    run: (kind) => cellOf(() => protectedIo(machine, subject, leg, { kind, ...rest })),
  });
  const types = [PiType.type1, PiType.type2, PiType.type3].map((piType) =>
    column(
      `PI type ${piType}`,
      "write and read of peer memory, tuples on the medium compared, damage noticed",
      { piType, metadataBytes: PI_BYTES, memory: "peer" },
    ),
  );
  const wide = { piType: PiType.type1, metadataBytes: WIDE_METADATA };
  return [
    ...types,
    column(
      "PI, no PRACT, peer memory",
      "metadata of 64 bytes: the controller inserts nothing, and the CPU does not see the data",
      { ...wide, memory: "peer" },
    ),
    column(
      "PI, no PRACT, host memory",
      "the same with host memory in the words of the description: the CPU makes and checks it",
      { ...wide, memory: "host" },
    ),
  ];
}

async function protectedIo(
  machine: Machine,
  subject: CompareSubject,
  leg: Bdf,
  run: Case,
): Promise<Cell> {
  const { piType, metadataBytes } = run;
  const setup = await StackSetup.open(machine, subject, {
    legs: [leg],
    mode: "off",
    namespace: { piType, metadataBytes, piFirst: true },
  });
  const [{ queue }] = setup.legs;
  const data = patternBytes(BYTES, piType);
  const handle = openFilled(run, setup, data);
  const io = (op: number): number =>
    setup.io(queue, op, FIRST_LBA, handle, { byte: 0, length: BYTES });
  const written = io(BioOp.write);
  if (written !== BlockStatus.ok) return no(`refused: ${blockStatusName(written)}`);
  const wrong = wrongTuple(setup, data, run);
  if (wrong !== null) return { outcome: "unsafe", detail: wrong };
  const read = io(BioOp.read);
  if (read !== BlockStatus.ok) return no(`read refused: ${blockStatusName(read)}`);
  setup.damage(0, (FIRST_LBA + 3) * BLOCK);
  const damaged = io(BioOp.read);
  if (damaged !== BlockStatus.protection) {
    return { outcome: "unsafe", detail: "damage on the medium went unnoticed" };
  }
  return yes(makers(queue.integrity));
}

function openFilled({ kind, memory }: Case, setup: StackSetup, data: Uint8Array): Handle {
  const { devices } = setup;
  if (memory === "peer") {
    setup.fill(0, data);
    return openDescription(kind, setup, setup.provider(), devices);
  }
  const region = setup.fabric.allocateHost(SUBSECTION_BYTES, SUBSECTION_BYTES, "payload");
  region.bytes.set(data);
  return openHostMemory(kind, setup, region, devices[0]);
}

/** What is wrong with the tuples on the medium; null: nothing. */
function wrongTuple(setup: StackSetup, data: Uint8Array, run: Case): string | null {
  const { piType } = run;
  for (let block = 0; block < BLOCKS; block++) {
    const lba = FIRST_LBA + block;
    const tuple = setup.metadata(0, lba, PI_BYTES);
    const guard = crc16T10(data, block * BLOCK, BLOCK, 0);
    if (getGuard(tuple, 0) !== guard) return `no guard of the data at LBA ${lba}`;
    // Type 3 leaves the reference tag to the application.
    if (piType !== PiType.type3 && getRefTag(tuple, 0) !== lba) return `wrong tag at LBA ${lba}`;
  }
  return null;
}

function makers(integrity: StackSetup["legs"][number]["queue"]["integrity"]): string {
  const { byController = 0, byCpu = 0 } = integrity ?? {};
  const whole = `of ${byController + byCpu} requests`;
  const parts = [
    byController > 0 ? `${byController} ${whole} by the controller (PRACT)` : "",
    byCpu > 0 ? `${byCpu} ${whole} by the CPU` : "",
  ];
  return `made and checked, ${parts.filter((part) => part !== "").join(", ")}; damage noticed`;
}
