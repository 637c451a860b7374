// Kubernetes quantities (`500m`, `1.5Gi`, `1e3`): read exactly and written in the one form that equal amounts share.

/** Suffix → its power; decimal suffixes count in tens, binary ones in twos. */
const DECIMAL: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  '': 0,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const BINARY: Readonly<Record<string, number>> = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 };
const DECIMAL_SUFFIX = new Map(Object.entries(DECIMAL).map(([suffix, power]) => [power, suffix]));
const BINARY_SUFFIX = ['', ...Object.keys(BINARY)];

const SHAPE = /^([+-]?)([0-9]*)(?:(\.)([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)$/;
const BAD_SHAPE =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const BAD_SUFFIX = "unable to parse quantity's suffix";
const BAD_NUMBER = 'unable to parse numeric part of quantity';

/** No amount needs more; arithmetic on millions of digits would hold the server up. */
const MAX_LENGTH = 128;
const MAX_POWER = 2 ** 31;
/** The smallest amount there is: 10^-9. */
const NANO = -9;
const MAX_BINARY = 2n ** 63n - 1n;
/** Digits that an int64 surely holds: up to here Kubernetes keeps a text that is canonical as it stands. */
const INT64_DIGITS = 18;

type Format = 'decimal' | 'exponent' | 'binary';

export type CanonicalQuantity = { readonly text: string } | { readonly error: string };

/** The canonical text, or the sentence with which Kubernetes refuses. */
export function canonicalQuantity(input: string): CanonicalQuantity {
  const text = input.trim();
  if (text === '' || text.length > MAX_LENGTH) return { error: BAD_SHAPE };
  const match = SHAPE.exec(text);
  if (match === null) return { error: BAD_SHAPE };
  const [, sign = '', whole = '', point, fraction = '', suffix = ''] = match;
  const parsed = parseSuffix(suffix);
  if (parsed === undefined) return { error: BAD_SUFFIX };
  if (whole === '' && (point === undefined || fraction === '')) return { error: BAD_NUMBER };
  const { format, power } = parsed;
  const number = whole.replace(/^0+/, '') || '0';
  if (isWrittenCanonically(number, fraction, format, power)) return { text };
  const digits = BigInt(number + fraction);
  let amount = shorten(
    format === 'binary'
      ? { digits: digits << BigInt(power), power: -fraction.length }
      : { digits, power: power - fraction.length },
  );
  if (format === 'binary' && scaled(amount, NANO) > MAX_BINARY * 10n ** 9n)
    amount = shorten({ digits: MAX_BINARY, power: 0 });
  return { text: `${sign === '-' && amount.digits !== 0n ? '-' : ''}${written(amount, format)}` };
}

function parseSuffix(suffix: string): { format: Format; power: number } | undefined {
  if (Object.hasOwn(DECIMAL, suffix)) return { format: 'decimal', power: DECIMAL[suffix]! };
  if (Object.hasOwn(BINARY, suffix)) return { format: 'binary', power: BINARY[suffix]! };
  const match = /^[eE]([-+]?[0-9]+)$/.exec(suffix);
  const power = Number(match?.[1]);
  return match === null || Math.abs(power) >= MAX_POWER ? undefined : { format: 'exponent', power };
}

/** Such a text is kept to the letter, `+1` and `1.500` too. */
function isWrittenCanonically(whole: string, fraction: string, format: Format, power: number): boolean {
  const shifted = whole + fraction;
  if (format === 'binary')
    return (
      fraction === '' &&
      15 - whole.length - Math.trunc((power * 3) / 10) - 1 >= 0 &&
      (BigInt(whole) & 7n) !== 0n
    );
  const scale = power - fraction.length;
  return (
    shifted.length <= INT64_DIGITS &&
    scale >= NANO &&
    scale % 3 === 0 &&
    !shifted.endsWith('000') &&
    !shifted.startsWith('0')
  );
}

/** digits × 10^power, never negative. */
interface Amount {
  readonly digits: bigint;
  readonly power: number;
}

/** Rounds up to whole nanos, then moves every factor of ten into the power. */
function shorten({ digits, power }: Amount): Amount {
  if (digits === 0n) return { digits, power: 0 };
  let rounded = digits;
  let at = power;
  if (power < NANO) {
    const drop = NANO - power;
    // More places than there are digits: the smallest amount.
    const unit = drop > digits.toString().length ? undefined : 10n ** BigInt(drop);
    rounded = unit === undefined ? 1n : (digits + unit - 1n) / unit;
    at = NANO;
  }
  const text = rounded.toString();
  const kept = text.replace(/0+$/, '');
  return { digits: BigInt(kept), power: at + text.length - kept.length };
}

const scaled = ({ digits, power }: Amount, to: number): bigint => digits * 10n ** BigInt(power - to);

function written(amount: Amount, format: Format): string {
  if (amount.digits === 0n) return '0';
  if (format === 'binary' && amount.power >= 0) {
    let value = scaled(amount, 0);
    if (value >= 1024n) {
      let times = 0;
      for (; value >= 1024n && value % 1024n === 0n; times++) value /= 1024n;
      return `${value}${BINARY_SUFFIX[times]}`;
    }
  }
  const third = Math.floor(amount.power / 3) * 3;
  if (format === 'exponent') return `${scaled(amount, third)}${third === 0 ? '' : `e${third}`}`;
  // Beyond the last suffix the number itself grows.
  const power = Math.min(third, 18);
  return `${scaled(amount, power)}${DECIMAL_SUFFIX.get(power)}`;
}
