/**
 * A vitest reporter that adds one plain line, the very last of the run: `N passed, N failed`, with
 * `, N skipped` if any. People and machines read the same line. A file that does not load, or an
 * error outside every test, counts as a failure: a run with such an error never reads as clean.
 */
import type { Reporter, TestModule } from "vitest/node";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export function closingLine({ passed, failed, skipped }: Counts): string {
  const tail = skipped > 0 ? `, ${skipped} skipped` : "";
  return `${passed} passed, ${failed} failed${tail}`;
}

function count(modules: readonly TestModule[], errorsOutsideTests: number): Counts {
  const counts: Counts = { passed: 0, failed: errorsOutsideTests, skipped: 0 };
  for (const module of modules) {
    let failedHere = 0;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") counts.passed++;
      else if (state === "failed") failedHere++;
      else counts.skipped++;
    }
    // A module may fail with no failed test: syntax error, failed import, failed beforeAll.
    if (failedHere === 0 && module.state() === "failed") failedHere = 1;
    counts.failed += failedHere;
  }
  return counts;
}

export default class ClosingLineReporter implements Reporter {
  #line = closingLine({ passed: 0, failed: 1, skipped: 0 });

  onInit(): void {
    // At exit, because other reporters and coverage still print after the run has ended.
    process.once("exit", () => process.stdout.write(`${this.#line}\n`));
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    this.#line = closingLine(count(modules, unhandledErrors.length));
  }
}
