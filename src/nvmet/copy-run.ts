/** The ranges of a Copy, and how far it is. What is done with it: copy.hot.ts. */

/** Ranges of one command: MSRC + 1. */
export const COPY_RANGES_MAX = 128;

/** What a copy has done, and has to do. Kept with its request, and used again. */
export class CopyRun {
  readonly lbas = new Float64Array(COPY_RANGES_MAX);
  readonly blocks = new Uint32Array(COPY_RANGES_MAX);
  count = 0;
  /** Present range, blocks of it that are done, and where the next piece goes. */
  index = 0;
  done = 0;
  target = 0;
  /** Of the piece under way. */
  piece = 0;
  pieceMax = 0;
  isWriting = false;
  totalBytes = 0;
}
