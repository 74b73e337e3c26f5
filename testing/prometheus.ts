/**
 * A strict reader of Prometheus' text format 0.0.4: throws at the first line that a scraper might
 * read differently, or refuse.
 */

export interface ParsedSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface ParsedExposition {
  readonly families: ReadonlyMap<string, string>;
  readonly samples: readonly ParsedSample[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (NaN|[+-]Inf|[-+]?[0-9.]+(?:e[-+]?\d+)?)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/;

export function parseExposition(text: string): ParsedExposition {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, string>();
  const helped = new Set<string>();
  const samples: ParsedSample[] = [];
  const seen = new Set<string>();
  let current = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const help = /^# HELP (\S+) (.+)$/.exec(line);
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (help !== null) {
      current = help[1] as string;
      if (helped.has(current)) throw new Error(`${current} begins twice`);
      helped.add(current);
    } else if (type !== null) {
      if (type[1] !== current) throw new Error(`TYPE of ${type[1]} without its HELP before`);
      families.set(current, type[2] as string);
      const isCounter = type[2] === "counter";
      if (isCounter !== current.endsWith("_total")) throw new Error(`${current}: name and type`);
    } else {
      const sample = parseSample(line);
      const kind = families.get(current);
      const suffix = kind === "histogram" ? /^(.*)_(bucket|sum|count)$/.exec(sample.name) : null;
      const family = suffix === null ? sample.name : suffix[1];
      if (family !== current) throw new Error(`${sample.name} among the samples of ${current}`);
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      if (seen.has(key)) throw new Error(`${key} is there twice`);
      seen.add(key);
      samples.push(sample);
    }
  }
  checkHistograms(families, samples);
  return { families, samples };
}

function parseSample(line: string): ParsedSample {
  const match = SAMPLE.exec(line);
  if (match === null) throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = match[2] ?? "";
  while (rest !== "") {
    const label = LABEL.exec(rest);
    if (label === null) throw new Error(`no labels: ${line}`);
    const [whole, name, value] = label as unknown as [string, string, string];
    if (labels[name] !== undefined) throw new Error(`label ${name} is there twice: ${line}`);
    labels[name] = value.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
    rest = rest.slice(whole.length);
  }
  const number = match[3] as string;
  return {
    name: match[1] as string,
    labels,
    value: Number(number.replace("Inf", "Infinity")),
  };
}

/** Buckets only grow, the last is +Inf and equals the count. */
function checkHistograms(
  families: ReadonlyMap<string, string>,
  samples: readonly ParsedSample[],
): void {
  for (const [family, type] of families) {
    if (type !== "histogram") continue;
    const series = new Map<string, ParsedSample[]>();
    for (const sample of samples) {
      if (sample.name !== `${family}_bucket`) continue;
      const { le: _, ...labels } = sample.labels;
      const key = JSON.stringify(labels);
      series.set(key, [...(series.get(key) ?? []), sample]);
    }
    for (const [key, buckets] of series) {
      const isGrowing = buckets.every(({ value }, i) => value >= (buckets[i - 1]?.value ?? 0));
      const last = buckets.at(-1);
      if (!isGrowing || last?.labels["le"] !== "+Inf") throw new Error(`buckets of ${key}`);
      const count = samples.find(
        (one) => one.name === `${family}_count` && JSON.stringify(one.labels) === key,
      );
      if (count?.value !== last.value)
        throw new Error(`the count of ${key} is not its last bucket`);
    }
  }
}
