/**
 * Texts that hold several dumps: nvidia-bug-report.log, and outputs that someone put one after
 * another. Cuts them into files and command outputs; what those mean is the importers' job.
 *
 * The report separates its sections by a line of underscores. A section is the output of a command,
 * named in its first line, or blocks of files, each begun by `*** /path`.
 */

import { BRIDGE_DEPTH_MAX, BUG_REPORT_SECTIONS_MAX } from "../../core/index.ts";

export interface CommandOutput {
  /** As the report names it: `/usr/bin/lspci -nntv`. */
  readonly command: string;
  readonly text: string;
}

export interface Sections {
  readonly commands: readonly CommandOutput[];
  /** Files by absolute path. */
  readonly files: ReadonlyMap<string, string>;
}

const SEPARATOR = /^_{40,}\r?$/m;
const FILE_MARK = /^\*\*\* (\/\S+)\r?$/;

/** True for the log of nvidia-bug-report.sh, complete or cut at its beginning. */
export function isBugReport(head: string): boolean {
  return (
    /^Start of NVIDIA bug report log file/m.test(head) ||
    (SEPARATOR.test(head) && /^\*\*\* (?:\/|ls: )/m.test(head))
  );
}

export function splitBugReport(text: string): Sections {
  const commands: CommandOutput[] = [];
  const files = new Map<string, string>();
  for (const section of text.split(SEPARATOR).slice(0, BUG_REPORT_SECTIONS_MAX)) {
    const body = section.replace(/^\s*\n/, "").replace(/^\n+/, "");
    const end = body.indexOf("\n");
    const title = (end < 0 ? body : body.slice(0, end)).trim();
    if (/(?:^|\/)lspci(?: |$)/.test(title) || /configuration space dump using sysfs/.test(title)) {
      commands.push({ command: title, text: body.slice(end + 1) });
    } else if (title === "dmesg:") {
      files.set("/var/log/dmesg", body.slice(end + 1));
    }
    if (body.includes("*** /")) takeFiles(body, files);
  }
  return { commands, files };
}

/** Blocks of one section. `*** ls: ...` under a name is a listing, not content. */
function takeFiles(body: string, files: Map<string, string>): void {
  let path: string | null = null;
  let lines: string[] = [];
  const put = (): void => {
    if (path !== null) files.set(path, lines.join("\n"));
  };
  for (const line of body.split("\n")) {
    const mark = FILE_MARK.exec(line);
    if (mark !== null) {
      put();
      path = mark[1];
      lines = [];
    } else if (!line.startsWith("*** ")) {
      lines.push(line);
    }
  }
  put();
}

const PLACE = "[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]";
const PATH_LINE = new RegExp(
  `^((?:[0-9a-f]{4,8}:)?)${PLACE}/(?:${PLACE}/){0,${BRIDGE_DEPTH_MAX}}(${PLACE}) `,
  "gm",
);
const ID = "([0-9a-f]{4})";
const SYSFS_LINE = new RegExp(
  `^([0-9a-f]{4,8}:${PLACE}) ${ID}([0-9a-f]{2}): ` +
    `Vendor ${ID} Device ${ID} \\(rev ([0-9a-f]{2})\\)$`,
  "gm",
);

/**
 * Variants of lspci's lines, made plain: paths of `lspci -PP` (`00:04.0/01:00.0 ...`) lose what is
 * above the function, and what the bug report prints itself where lspci is missing gets its form.
 */
export function plainLspci(text: string): string {
  let plain = text;
  if (/^[0-9a-f:.]+\.[0-7]\//m.test(text)) plain = plain.replace(PATH_LINE, "$1$2 ");
  if (plain.includes(": Vendor ")) {
    plain = plain.replace(SYSFS_LINE, "$1 $2: $4:$5 (rev $6) (prog-if $3)");
  }
  return plain;
}
