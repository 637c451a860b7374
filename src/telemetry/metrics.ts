// A metrics registry that writes OpenMetrics text as ztunnel's does (ztunnel.md §11.1). Label sets are interned: one
// string for all connections that share them, and a cell whose increment is an addition.

/** In the order in which they are to appear. */
export type Labels = Readonly<Record<string, string>>;
/** Labels in their written form, made once by those who count the same series again and again. */
export type LabelText = string & { readonly __brand: 'LabelText' };

/** One series. Keep it for the life of a connection instead of looking it up per event. */
export interface Cell {
  value: number;
}

export interface Family {
  /** The series of a label set; made at first use. */
  cell(labels?: Labels | LabelText): Cell;
  /** `cell(labels).value += amount`. */
  add(labels: Labels, amount?: number): void;
  /** Forgets a series. */
  remove(labels: Labels): void;
}

export interface Histogram {
  observe(labels: Labels, value: number): void;
}

export interface Registry {
  /** `name` without `_total`. The help text is a sentence. */
  counter(name: string, help: string): Family;
  gauge(name: string, help: string): Family;
  /** Of durations in seconds; names of ours end in `_seconds`. The buckets' upper bounds, ascending. */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram;
  /** A gauge whose values are asked for at each scrape; undefined leaves the series out. */
  computed(name: string, help: string, read: () => number | undefined): void;
  /** The exposition, ending with `# EOF`. Families without series are left out. `others` are added to our own. */
  expose(others?: readonly MetricsSnapshot[]): string;
  /** Counters and gauges as they stand, for the exposition of another thread's registry. */
  snapshot(): MetricsSnapshot;
}

/** Family → label text between the braces → value. */
export type MetricsSnapshot = ReadonlyMap<string, ReadonlyMap<string, number>>;

export const OPEN_METRICS_TYPE = 'application/openmetrics-text;charset=utf-8;version=1.0.0';
export const PLAIN_TEXT_TYPE = 'text/plain; charset=utf-8';

/** The body is the same for both. */
export function metricsContentType(accept: string | undefined): string {
  return accept?.includes('application/openmetrics-text') === true ? OPEN_METRICS_TYPE : PLAIN_TEXT_TYPE;
}

export function createRegistry(): Registry {
  const families = new Map<string, FamilyState | HistogramState>();
  const add = <T extends FamilyState | HistogramState>(family: T): T => {
    if (families.has(family.name)) throw new Error(`metric ${family.name} is registered twice`);
    families.set(family.name, family);
    return family;
  };
  return {
    counter: (name, help) => add(new FamilyState(name, help, 'counter')),
    gauge: (name, help) => add(new FamilyState(name, help, 'gauge')),
    histogram: (name, help, bounds) => add(new HistogramState(name, help, bounds)),
    computed: (name, help, read) => {
      add(new FamilyState(name, help, 'gauge', read));
    },
    expose: (others = []) => {
      const parts: string[] = [];
      for (const family of families.values())
        family.write(
          parts,
          others.flatMap((other) => other.get(family.name) ?? []),
        );
      parts.push('# EOF\n');
      return parts.join('');
    },
    snapshot: () =>
      new Map(
        [...families.values()].flatMap((family) =>
          family instanceof FamilyState ? [[family.name, family.values()]] : [],
        ),
      ),
  };
}

class FamilyState implements Family {
  readonly name: string;
  readonly #help: string;
  readonly #type: 'counter' | 'gauge';
  readonly #read: (() => number | undefined) | undefined;
  /** Label text between the braces → series. */
  readonly #cells = new Map<LabelText, Cell>();

  constructor(name: string, help: string, type: 'counter' | 'gauge', read?: () => number | undefined) {
    this.name = name;
    this.#help = help;
    this.#type = type;
    this.#read = read;
  }

  cell(labels: Labels | LabelText = {}): Cell {
    const key = typeof labels === 'string' ? labels : labelText(labels);
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      cell = { value: 0 };
      this.#cells.set(key, cell);
    }
    return cell;
  }

  add(labels: Labels, amount = 1): void {
    this.cell(labels).value += amount;
  }

  remove(labels: Labels): void {
    this.#cells.delete(labelText(labels));
  }

  values(): Map<string, number> {
    return new Map([...this.#cells].map(([labels, { value }]) => [labels, value]));
  }

  write(parts: string[], others: readonly ReadonlyMap<string, number>[]): void {
    const computed = this.#read?.();
    if (computed !== undefined) this.cell().value = computed;
    else if (this.#read !== undefined) this.#cells.clear();
    const values = others.length === 0 ? undefined : sumOf([this.values(), ...others]);
    if ((values ?? this.#cells).size === 0) return;
    const { name } = this;
    const suffix = this.#type === 'counter' ? '_total' : '';
    parts.push(`# HELP ${name} ${escapeHelp(this.#help)}\n# TYPE ${name} ${this.#type}\n`);
    const put = (labels: string, value: number): void => {
      parts.push(`${name}${suffix}${labels === '' ? '' : `{${labels}}`} ${value}\n`);
    };
    if (values === undefined) for (const [labels, { value }] of this.#cells) put(labels, value);
    else for (const [labels, value] of values) put(labels, value);
  }
}

function sumOf(held: readonly ReadonlyMap<string, number>[]): ReadonlyMap<string, number> {
  const sum = new Map<string, number>();
  for (const values of held)
    for (const [labels, value] of values) sum.set(labels, (sum.get(labels) ?? 0) + value);
  return sum;
}

class HistogramState implements Histogram {
  readonly name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  /** Label text between the braces → observations per bucket (the last one has no bound) and their sum. */
  readonly #series = new Map<string, { readonly counts: number[]; sum: number }>();

  constructor(name: string, help: string, bounds: readonly number[]) {
    this.name = name;
    this.#help = help;
    this.#bounds = bounds;
  }

  observe(labels: Labels, value: number): void {
    const key = labelText(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { counts: new Array<number>(this.#bounds.length + 1).fill(0), sum: 0 };
      this.#series.set(key, series);
    }
    const bucket = this.#bounds.findIndex((bound) => value <= bound);
    series.counts[bucket < 0 ? this.#bounds.length : bucket]! += 1;
    series.sum += value;
  }

  write(parts: string[]): void {
    if (this.#series.size === 0) return;
    const { name } = this;
    parts.push(`# HELP ${name} ${escapeHelp(this.#help)}\n# TYPE ${name} histogram\n`);
    // A unit has to be the name's last part (OpenMetrics).
    if (name.endsWith('_seconds')) parts.push(`# UNIT ${name} seconds\n`);
    for (const [labels, { counts, sum }] of this.#series) {
      const total = counts.reduce((left, right) => left + right, 0);
      const braces = labels === '' ? '' : `{${labels}}`;
      parts.push(`${name}_sum${braces} ${floatText(sum)}\n${name}_count${braces} ${total}\n`);
      let upTo = 0;
      for (const [index, count] of counts.entries()) {
        upTo += count;
        const bound = this.#bounds[index];
        const le = bound === undefined ? '+Inf' : floatText(bound);
        parts.push(`${name}_bucket{le="${le}"${labels === '' ? '' : `,${labels}`}} ${upTo}\n`);
      }
    }
  }
}

/** OpenMetrics wants a fraction where the value is a float. */
function floatText(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

export function labelText(labels: Labels): LabelText {
  let text = '';
  for (const name in labels) text += `${text === '' ? '' : ','}${name}="${escapeLabel(labels[name]!)}"`;
  return text as LabelText;
}

function escapeLabel(value: string): string {
  return /[\\"\n]/.test(value)
    ? value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
    : value;
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}
