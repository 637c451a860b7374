import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { commandReference, describingContext } from './command-reference.ts';
import { type CommandFacts, describeCommand } from './command-tree.ts';
import { createProgram } from './program.ts';

const root = describeCommand(createProgram(describingContext));
const all = (command: CommandFacts): CommandFacts[] => [command, ...command.commands.flatMap(all)];
/** They run in the cluster, configured by their environment. */
const PROGRAMS = ['ztunnel', 'control', 'cni'];

test('docs/COMMANDS.md is what the commands say (npm run generate:commands)', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/COMMANDS.md'), 'utf8');
  assert.equal(page, commandReference());
});

test('every command a person types has a description and an example', () => {
  const lacking = all(root)
    .slice(1)
    .filter(({ name, commands, description, after }) => {
      if (PROGRAMS.includes(name)) return description === '';
      // Groups may leave examples to their commands.
      return description === '' || (commands.length === 0 && !/Examples?:\n {2}.*\bculvert /.test(after));
    });
  assert.deepEqual(
    lacking.map(({ path }) => path),
    [],
  );
});

test('every example names a command and options that exist', () => {
  for (const command of all(root))
    for (const line of command.after.split('\n').filter((text) => text.startsWith('  culvert '))) {
      const words = line.trim().split(/\s+/).slice(1);
      let at = root;
      while (words.length > 0) {
        const next = at.commands.find(({ name, aliases }) => [name, ...aliases].includes(words[0] as string));
        if (next === undefined) break;
        at = next;
        words.shift();
      }
      assert.notEqual(at, root, line);
      const end = words.findIndex((word) => word === '--' || word === '>');
      for (const word of words.slice(0, end < 0 ? undefined : end))
        if (word.startsWith('-'))
          assert.ok(
            at.options.some(({ names }) => names.includes(word.replace(/=.*$/, ''))),
            `${line}: ${word}`,
          );
    }
});

test('help loads neither YAML nor a client', () => {
  // Static imports only: what a command loads when it runs is behind import().
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, specifier = ''] of text.matchAll(/^(?:import|export) (?!type)[^;]*?from '([^']+)';/gm)) {
      if (specifier.startsWith('.')) visit(join(file, '..', specifier));
      else if (specifier.startsWith('#')) visit(join(import.meta.dirname, '..', specifier.slice(1)));
      else seen.add(specifier);
    }
  };
  visit(join(import.meta.dirname, 'program.ts'));
  for (const heavy of ['yaml', 'node:https', 'node:http', 'node:tls', 'node:child_process'])
    assert.ok(!seen.has(heavy), `${heavy} is loaded by \`culvert help\``);
  assert.ok(seen.has('commander'), 'the walk follows imports at all');
});
