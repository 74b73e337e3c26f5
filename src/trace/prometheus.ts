/**
 * Metrics as text for Prometheus to scrape: exposition format 0.0.4. Families in the order in which
 * they were begun, each with HELP and TYPE before its samples; names are checked, label values
 * escaped. A family without samples is left out, except for its HELP and TYPE.
 */

import { assert } from "../core/index.ts";

export const PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export type Labels = Readonly<Record<string, string | number>>;

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

export class Exposition {
  private readonly lines: string[] = [];
  private readonly seen = new Set<string>();

  private begin(name: string, type: string, help: string): void {
    assert(METRIC_NAME.test(name), "a metric has a valid name");
    assert(!this.seen.has(name), "a metric family is written once");
    this.seen.add(name);
    this.lines.push(`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`);
  }

  /** Only ever grows, from 0 when the process started. The name ends in `_total`. */
  counter(name: string, help: string, samples: Iterable<readonly [Labels, number]>): void {
    assert(name.endsWith("_total"), "a counter's name ends in _total");
    this.begin(name, "counter", help);
    for (const [labels, value] of samples) this.sample(name, labels, value);
  }

  gauge(name: string, help: string, samples: Iterable<readonly [Labels, number]>): void {
    this.begin(name, "gauge", help);
    for (const [labels, value] of samples) this.sample(name, labels, value);
  }

  /** `counts` has one entry per bound, and one for what is above the last; not cumulative. */
  histogram(
    name: string,
    help: string,
    bounds: readonly number[],
    samples: Iterable<{ labels: Labels; counts: Float64Array; sum: number }>,
  ): void {
    this.begin(name, "histogram", help);
    for (const { labels, counts, sum } of samples) {
      assert(counts.length === bounds.length + 1, "a histogram has a count for every bucket");
      let total = 0;
      for (const [i, bound] of bounds.entries()) {
        total += counts[i] as number;
        this.sample(`${name}_bucket`, { ...labels, le: formatValue(bound) }, total);
      }
      total += counts[bounds.length] as number;
      this.sample(`${name}_bucket`, { ...labels, le: "+Inf" }, total);
      this.sample(`${name}_sum`, labels, sum);
      this.sample(`${name}_count`, labels, total);
    }
  }

  private sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries(labels).map(([label, text]) => {
      assert(LABEL_NAME.test(label) && !label.startsWith("__"), "a label has a valid name");
      return `${label}="${escapeLabel(String(text))}"`;
    });
    const set = pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
    this.lines.push(`${name}${set} ${formatValue(value)}`);
  }

  text(): string {
    return `${this.lines.join("\n")}\n`;
  }
}

function formatValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

const escapeHelp = (text: string): string => text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n");
const escapeLabel = (text: string): string => escapeHelp(text).replace(/"/g, '\\"');
