/**
 * Kernel versions as rules need them: major and minor. Stable releases and distributions carry
 * entries back; a rule set says so where it is known, it does not guess.
 */

export interface KernelVersion {
  readonly major: number;
  readonly minor: number;
}

/** The newest kernel whose rules are known here; taken where the machine does not tell its own. */
export const LATEST_KERNEL: KernelVersion = { major: 7, minor: 3 };

/** Parses `7.3.4+deb13-amd64`, `5.15.0-91-generic`, `6.1`; null when the text is something else. */
export function parseKernelVersion(text: string | null): KernelVersion | null {
  const match = /(?:^|\s|version )(\d{1,3})\.(\d{1,3})(?:[.\-+\s]|$)/.exec(text ?? "");
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]) };
}

/** Negative when `a` is older than `b`, zero when both are the same. */
export function compareVersions(a: KernelVersion, b: KernelVersion): number {
  return a.major - b.major || a.minor - b.minor;
}

/** True when `version` is in [since, until): `until` null means that it never ended. */
export function isInForce(
  version: KernelVersion,
  since: KernelVersion,
  until: KernelVersion | null,
): boolean {
  if (compareVersions(version, since) < 0) return false;
  return until === null || compareVersions(version, until) < 0;
}

export function formatVersion({ major, minor }: KernelVersion): string {
  return `${major}.${minor}`;
}
