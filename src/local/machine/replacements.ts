// Somebody else's program in place of one of ours: `culvert up --ztunnel COMMAND`, or `NODE=COMMAND` for one node only.
// The program runs as the container of the same pod, with the same tokens, mounts and addresses as ours.

import { realpathSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { isNodesOwn } from './node-root.ts';
import { isExecutable } from './tools.ts';

export const REPLACEABLE = ['ztunnel', 'control', 'cni'] as const;
export type Replaceable = (typeof REPLACEABLE)[number];

export interface Replacement {
  /** As in `image: local/PROGRAM`. */
  readonly program: Replaceable;
  /** Every node unless given. */
  readonly node?: string;
  /** The first word is an absolute path. */
  readonly argv: readonly string[];
}

export interface CommandPlace {
  /** As PATH. */
  readonly path: string;
  readonly cwd: string;
}

/** Names of nodes are DNS labels; a command that begins like one and `=` would have to be a path with `=` in it. */
const FOR_NODE = /^([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)=(.*)$/s;

/** @throws MeshError CONFIG_INVALID naming the flag and what is wrong with its value. */
export function readReplacements(
  flags: Readonly<Record<Replaceable, readonly string[]>>,
  place: CommandPlace,
): Replacement[] {
  const all = REPLACEABLE.flatMap((program) =>
    flags[program].map((text) => readReplacement(program, text, place)),
  );
  const seen = new Set<string>();
  for (const { program, node } of all) {
    const key = `${program} ${node ?? ''}`;
    if (seen.has(key))
      throw invalid(program, `is given twice for ${node === undefined ? 'every node' : `node ${node}`}`);
    seen.add(key);
  }
  return all;
}

function readReplacement(program: Replaceable, text: string, place: CommandPlace): Replacement {
  const [, node, rest] = FOR_NODE.exec(text) ?? [undefined, undefined, text];
  if (node !== undefined && program === 'control')
    throw invalid(
      program,
      `cannot be for one node (${node}): there is one control plane, on whichever node it lands`,
    );
  const [file, ...args] = splitWords(rest ?? '', program);
  if (file === undefined || file === '')
    throw invalid(program, 'is empty: give a command, such as --ztunnel /opt/ztunnel/ztunnel');
  const argv = [findExecutable(file, program, place), ...args];
  return { program, argv, ...(node === undefined ? {} : { node }) };
}

/** Words as a shell splits them: blanks separate, quotes hold together, a backslash takes the next character as it is. */
export function splitWords(text: string, program: Replaceable): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string;
    if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (char === quote) quote = '';
    else if (quote === '' && (char === "'" || char === '"')) {
      quote = char;
      word ??= '';
    } else if (char === '\\' && quote !== "'" && at + 1 < text.length) word = (word ?? '') + text[++at];
    else word = (word ?? '') + char;
  }
  if (quote !== '') throw invalid(program, `has an unclosed ${quote}: ${text}`);
  if (word !== undefined) words.push(word);
  return words;
}

function findExecutable(file: string, program: Replaceable, { path, cwd }: CommandPlace): string {
  const candidates = file.includes('/')
    ? [resolve(cwd, file)]
    : path.split(':').flatMap((dir) => (isAbsolute(dir) ? [join(dir, file)] : []));
  const present = candidates.filter((candidate) => statSync(candidate, { throwIfNoEntry: false })?.isFile());
  if (present.length === 0) {
    const where = file.includes('/')
      ? `${candidates[0]} does not exist or is no file`
      : `${file} is not in PATH`;
    throw invalid(program, `names no program: ${where}`);
  }
  const found = present.find(isExecutable);
  if (found === undefined) throw invalid(program, `names a file that may not be executed: ${present[0]}`);
  for (const dir of [dirname(found), dirname(realpathSync(found))]) {
    if (isNodesOwn(dir))
      throw invalid(
        program,
        `names ${found}, which lies in ${dir}, where every node has files of its own; put it in a directory of its own`,
      );
  }
  return found;
}

function invalid(program: Replaceable, why: string): MeshError {
  return new MeshError('CONFIG_INVALID', `--${program} ${why}`, { details: { flag: program } });
}

/** What runs on a node in place of `local/NAME`; undefined for our own program. What is meant for the node goes first. */
export function replacementFor(
  all: readonly Replacement[],
  name: string,
  node: string,
): readonly string[] | undefined {
  const candidates = all.filter(({ program }) => program === name);
  return (candidates.find((one) => one.node === node) ?? candidates.find((one) => one.node === undefined))
    ?.argv;
}

/** Directories that must be visible on every node for these programs to start. */
export function replacementPaths(all: readonly Replacement[]): string[] {
  return [...new Set(all.flatMap(({ argv: [file = '/'] }) => [dirname(file), dirname(realpathSync(file))]))];
}
