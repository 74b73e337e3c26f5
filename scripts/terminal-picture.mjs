/**
 * Turns the coloured output of a command into an SVG, for the README: what a terminal shows, as text
 * that stays sharp. Usage: FORCE_COLOR=1 command | node scripts/terminal-picture.mjs TITLE > out.svg
 */
import { readFileSync } from "node:fs";

const TITLE = process.argv[2] ?? "";
const CHAR_WIDTH = 7.83;
const LINE_HEIGHT = 17;
const MARGIN = 14;
const BAR = 30;
const COLORS = { 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 36: "#79c0ff" };
const PLAIN = "#d6deeb";
const DIM = "#7d8590";

const escapeXml = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Splits a line at escape sequences; each run keeps its column, so that wide glyphs do not drift. */
function runsOf(line) {
  const runs = [];
  let style = { fill: PLAIN, bold: false };
  let column = 0;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escape sequences.
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escape sequences.
    const code = /^\u001b\[([0-9;]*)m$/.exec(part)?.[1];
    if (code === undefined) {
      if (part !== "") runs.push({ text: part, column, ...style });
      column += [...part].length;
      continue;
    }
    const number = Number(code);
    if (number === 1) style = { ...style, bold: true };
    else if (number === 2) style = { ...style, fill: DIM };
    else if (number === 22) style = { fill: style.fill === DIM ? PLAIN : style.fill, bold: false };
    else if (number === 39 || number === 0) style = { ...style, fill: PLAIN };
    else if (COLORS[number] !== undefined) style = { ...style, fill: COLORS[number] };
  }
  return { runs, columns: column };
}

const lines = readFileSync(0, "utf8").trimEnd().split("\n").map(runsOf);
const width = Math.ceil(Math.max(...lines.map((l) => l.columns)) * CHAR_WIDTH + 2 * MARGIN);
const height = lines.length * LINE_HEIGHT + BAR + 2 * MARGIN;
const out = [
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="13">`,
  `<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>`,
  `<rect width="${width}" height="${BAR}" rx="8" fill="#161b22"/>`,
  ...["#ff5f57", "#febc2e", "#28c840"].map(
    (fill, i) => `<circle cx="${18 + 18 * i}" cy="${BAR / 2}" r="5.5" fill="${fill}"/>`,
  ),
  `<text x="${width / 2}" y="${BAR / 2 + 4}" fill="${DIM}" text-anchor="middle">${escapeXml(TITLE)}</text>`,
];
lines.forEach(({ runs }, i) => {
  const y = BAR + MARGIN + (i + 0.75) * LINE_HEIGHT;
  for (const { text, column, fill, bold } of runs) {
    const x = (MARGIN + column * CHAR_WIDTH).toFixed(1);
    const length = ([...text].length * CHAR_WIDTH).toFixed(1);
    const weight = bold ? ' font-weight="bold"' : "";
    out.push(
      `<text x="${x}" y="${y}" fill="${fill}"${weight} xml:space="preserve" textLength="${length}">${escapeXml(text)}</text>`,
    );
  }
});
out.push("</svg>");
process.stdout.write(`${out.join("\n")}\n`);
