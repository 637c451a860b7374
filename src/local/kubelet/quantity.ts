// Resource quantities (`250m`, `1.5`, `64Mi`) as the downward API shows them (pure).

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** Undefined for what is no quantity. */
export function parseQuantity(text: string): number | undefined {
  const [, number, suffix = ''] = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*)$/.exec(text) ?? [];
  const factor = Object.hasOwn(SUFFIXES, suffix) ? SUFFIXES[suffix] : undefined;
  return number === undefined || factor === undefined ? undefined : Number(number) * factor;
}

/** The quantity in units of the divisor, rounded up, as whole digits. */
export function dividedQuantity(value: string, divisor: string): string | undefined {
  const amount = parseQuantity(value);
  const unit = parseQuantity(divisor === '' || divisor === '0' ? '1' : divisor);
  if (amount === undefined || unit === undefined || unit === 0) return undefined;
  // Thousandths are no binary fractions: 0.003/0.001 must not become 4.
  return String(Math.ceil(Number((amount / unit).toPrecision(12))));
}
