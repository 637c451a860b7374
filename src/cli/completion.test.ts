// The scripts are run by the shells themselves; one that this machine has not is skipped visibly.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { describingContext } from './command-reference.ts';
import { describeCommand } from './command-tree.ts';
import { completionScript } from './completion.ts';
import { createProgram } from './program.ts';

const root = describeCommand(createProgram(describingContext));
const has = (shell: string): boolean => spawnSync(shell, ['-c', 'true']).status === 0;

/** What bash offers for the last of these words. */
function bashOffers(...words: string[]): string[] {
  const script = `${completionScript(root, 'bash')}
COMP_WORDS=(${words.map((word) => JSON.stringify(word)).join(' ')})
COMP_CWORD=${words.length - 1}
_culvert
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout.trim().split('\n');
}

test('bash: commands, subcommands and options', { skip: !has('bash') && 'no bash here' }, () => {
  assert.deepEqual(bashOffers('culvert', 'inst'), ['install']);
  assert.deepEqual(bashOffers('culvert', 'ztunnel-config', 'pol'), ['policies']);
  assert.ok(bashOffers('culvert', 'install', '--').includes('--dry-run'));
  assert.ok(bashOffers('culvert', 'ztunnel-config', 'log', '--le').includes('--level'));
  // Options and their values on the way do not lead astray.
  assert.ok(bashOffers('culvert', 'logs', '--from', 'web', '--den').includes('--denied'));
});

test('fish: commands, subcommands and options', { skip: !has('fish') && 'no fish here' }, () => {
  const offers = (line: string): string[] => {
    const script = `${completionScript(root, 'fish')}\ncomplete -C ${JSON.stringify(line)}`;
    const { status, stdout, stderr } = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout
      .trim()
      .split('\n')
      .map((offer) => offer.split('\t')[0] as string);
  };
  assert.deepEqual(offers('culvert inst'), ['install']);
  assert.deepEqual(offers('culvert ztunnel-config pol'), ['policies']);
  assert.ok(offers('culvert install --dry').includes('--dry-run'));
});

test('zsh: the script is one that zsh takes', { skip: !has('zsh') && 'no zsh here' }, () => {
  const script = `autoload -U compinit; compinit -u; ${completionScript(root, 'zsh')}`;
  const { status, stderr } = spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

test('a shell without completion is named with what there is', () => {
  assert.throws(() => completionScript(root, 'bsh'), /did you mean bash\? \(there are: bash, zsh, fish\)/);
});
