// Colour for people, none for programs: decided once, from the terminal and NO_COLOR.

export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  accent(text: string): string;
}

const paint =
  (open: number, close: number) =>
  (text: string): string =>
    `\u001b[${open}m${text}\u001b[${close}m`;

const COLOUR: Style = {
  bold: paint(1, 22),
  dim: paint(2, 22),
  good: paint(32, 39),
  bad: paint(31, 39),
  accent: paint(36, 39),
};
const plain = (text: string): string => text;
const PLAIN: Style = { bold: plain, dim: plain, good: plain, bad: plain, accent: plain };

/** https://no-color.org: any non-empty NO_COLOR switches colour off. */
export function styleFor(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): Style {
  const refused = env.NO_COLOR !== undefined && env.NO_COLOR !== '';
  return isTerminal && !refused && env.TERM !== 'dumb' ? COLOUR : PLAIN;
}
