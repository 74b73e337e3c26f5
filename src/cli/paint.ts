/**
 * The meanings that reports paint with, in terminal colours. Codes: ECMA-48, 8.3.117 (SGR).
 */

import { type Paint, PLAIN } from "../core/index.ts";

const ESCAPE = "\x1b[";
const NORMAL_INTENSITY = 22;
const DEFAULT_COLOR = 39;

/** Text between two codes; where a painted part inside it ends, the outer one begins again. */
function painter(begin: number, end: number, endInside = ""): (text: string) => string {
  const [open, close] = [`${ESCAPE}${begin}m`, `${ESCAPE}${end}m`];
  const again = `${endInside}${open}`;
  return (text) => `${open}${text.includes(close) ? text.replaceAll(close, again) : text}${close}`;
}

// Bold and dim end with the same code: the inner one's must stand before the outer begins again.
const intensity = (begin: number): ((text: string) => string) =>
  painter(begin, NORMAL_INTENSITY, `${ESCAPE}${NORMAL_INTENSITY}m`);
const color = (begin: number): ((text: string) => string) => painter(begin, DEFAULT_COLOR);

const TERMINAL: Paint = {
  bold: intensity(1),
  dim: intensity(2),
  good: color(32),
  bad: color(31),
  warn: color(33),
  name: color(36),
};

export const makePaint = (isColored: boolean): Paint => (isColored ? TERMINAL : PLAIN);
