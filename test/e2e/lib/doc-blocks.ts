// The commands of a page: its fenced `sh` blocks in order. ```sh long-running``` marks a block that a person ends.

import { readFileSync } from 'node:fs';

export interface DocBlock {
  readonly line: number;
  readonly commands: string;
  readonly longRunning: boolean;
}

export function shellBlocks(path: string): DocBlock[] {
  const blocks: DocBlock[] = [];
  const lines = readFileSync(path, 'utf8').split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const opening = /^```(\S*)(?: (.*))?$/.exec(lines[at] as string);
    if (opening === null) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`${path}:${at + 1}: a block without an end`);
    const [, language, mark] = opening;
    if (mark !== undefined && mark !== 'long-running')
      throw new Error(`${path}:${at + 1}: unknown mark ${mark}`);
    if (language === 'sh')
      blocks.push({
        line: at + 1,
        commands: lines.slice(at + 1, end).join('\n'),
        longRunning: mark === 'long-running',
      });
    at = end;
  }
  return blocks;
}
