// Texts that hold something else, times and bytes: what is wrong with one, in the words of Go's parsers.

/** RFC 3339 step by step: the name of each step in Go's layout, and what it takes. */
const STEPS: readonly (readonly [layout: string, taken: RegExp])[] = [
  ['2006', /^\d{4}/],
  ['-', /^-/],
  ['01', /^\d{2}/],
  ['-', /^-/],
  ['02', /^\d{2}/],
  ['T', /^T/],
  ['15', /^\d{2}/],
  [':', /^:/],
  ['04', /^\d{2}/],
  [':', /^:/],
  ['05', /^\d{2}/],
];
/** After the seconds any fraction may come, in a MicroTime six places and no others. */
const FRACTION = [/^(?:[.,]\d+)?/, /^\.\d{6}(?!\d)/] as const;
const ZONE = /^(?:Z|[+-]\d{2}:\d{2})$/;
const RANGES: readonly (readonly [name: string, from: number, most: number])[] = [
  ['month', 5, 12],
  ['day', 8, 31],
  ['hour', 11, 23],
  ['minute', 14, 59],
  ['second', 17, 59],
];

/** undefined for a time as `metav1.Time` (or MicroTime) takes it. */
export function timeFault(text: string, micro: boolean): string | undefined {
  const layout = micro ? '2006-01-02T15:04:05.000000Z07:00' : '2006-01-02T15:04:05Z07:00';
  const says = (rest: string): string =>
    `parsing time ${JSON.stringify(text)} as ${JSON.stringify(layout)}: ${rest}`;
  let rest = text;
  const steps = [...STEPS, [micro ? '.000000' : '', FRACTION[micro ? 1 : 0]] as const];
  for (const [name, taken] of steps) {
    const match = taken.exec(rest);
    if (match === null) return says(`cannot parse ${JSON.stringify(rest)} as ${JSON.stringify(name)}`);
    rest = rest.slice(match[0].length);
  }
  if (!ZONE.test(rest)) return says(`cannot parse ${JSON.stringify(rest)} as "Z07:00"`);
  for (const [name, from, most] of RANGES) {
    const value = Number(text.slice(from, from + 2));
    if (value > most || (value === 0 && (name === 'month' || name === 'day')))
      return `parsing time ${JSON.stringify(text)}: ${name} out of range`;
  }
  // The 31st of June, and zones that are none.
  const date = new Date(`${text.slice(0, 10)}T00:00:00Z`);
  if (date.getUTCDate() !== Number(text.slice(8, 10)))
    return `parsing time ${JSON.stringify(text)}: day out of range`;
  const zone = /[+-](\d{2}):(\d{2})$/.exec(rest);
  return zone !== null && (Number(zone[1]) > 23 || Number(zone[2]) > 59)
    ? `parsing time ${JSON.stringify(text)}: time zone offset hour out of range`
    : undefined;
}

/** Where base64 (RFC 4648 §4, line ends ignored) breaks off; undefined when it does not. */
export function base64Fault(text: string): number | undefined {
  let digits = 0;
  let padding = 0;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at]!;
    if (letter === '\n' || letter === '\r') continue;
    if (letter === '=') {
      // The third or fourth place of the last group.
      if (++padding > 2 || digits % 4 < 2 || (digits % 4 === 3 && padding > 1)) return at;
    } else if (padding > 0 || !/[A-Za-z0-9+/]/.test(letter)) return at;
    else digits++;
  }
  return (digits + padding) % 4 === 0 ? undefined : text.length;
}
