// What a look at a node has found: one sentence each, and what to do.

export interface Finding {
  /** Stable, for programs: `cilium-exclusive`. */
  readonly id: string;
  /** `broken`: the mesh cannot work here. `trap`: something will not work as expected. `unknown`: could not be looked at. */
  readonly level: 'ok' | 'unknown' | 'trap' | 'broken';
  readonly what: string;
  /** What to do, where something is to be done. */
  readonly fix?: string;
}

const ORDER: readonly Finding['level'][] = ['broken', 'trap', 'unknown', 'ok'];
const MARKS = { broken: '✗', trap: '!', unknown: '?', ok: '✓' } as const;

export const worstFirst = (findings: readonly Finding[]): Finding[] =>
  findings.toSorted((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level));

/** Readable and short; the exit code is 1 when something is broken. */
export function renderFindings(findings: readonly Finding[]): string {
  const lines = worstFirst(findings).flatMap(({ level, what, fix }) => [
    `${MARKS[level]} ${what}`,
    ...(fix === undefined ? [] : [`    ${fix}`]),
  ]);
  const count = (level: Finding['level']): number => findings.filter((each) => each.level === level).length;
  const verdict =
    count('broken') > 0
      ? `${count('broken')} of these must be mended before the mesh can work on this node.`
      : count('trap') > 0
        ? `The mesh works on this node; ${count('trap')} thing${count('trap') === 1 ? '' : 's'} will not do what one expects.`
        : 'The mesh works on this node.';
  return `${lines.join('\n')}\n\n${verdict}\n`;
}
