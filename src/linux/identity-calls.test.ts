import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { identityFilter } from './identity-calls.ts';

test('every listed call jumps to the pretence, everything else to the permission', () => {
  const filter = identityFilter({ audit: 7, numbers: [105, 116] });
  // A reader of seccomp(2) by hand: what a call on an architecture ends in.
  const verdict = (architecture: number, number: number): number => {
    let loaded = 0;
    for (let at = 0; ; at++) {
      const [code, ifTrue, ifFalse, constant] = filter[at] ?? assert.fail('ran off the end');
      if (code === 0x20) loaded = constant === 4 ? architecture : number;
      else if (code === 0x15) at += loaded === constant ? ifTrue : ifFalse;
      else return constant;
    }
  };
  assert.equal(verdict(7, 105), 0x0005_0000);
  assert.equal(verdict(7, 116), 0x0005_0000);
  assert.equal(verdict(7, 117), 0x7fff_0000);
  assert.equal(verdict(8, 105), 0x7fff_0000, 'numbers of another architecture mean other calls');
});

test('a program started under it may become anybody and stays who it is', () => {
  const module = join(import.meta.dirname, 'identity-calls.ts');
  const inner = `
    const before = [process.getuid(), process.getgid(), process.getgroups().join()];
    process.setgroups([4242]); process.setgid(4242); process.setuid(4242);
    const after = [process.getuid(), process.getgid(), process.getgroups().join()];
    console.log(JSON.stringify(before) === JSON.stringify(after) ? 'same' : 'changed');`;
  const outer = `
    import { pretendIdentityChanges } from ${JSON.stringify(module)};
    import { spawnSync } from 'node:child_process';
    pretendIdentityChanges();
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', ${JSON.stringify(inner)}], { encoding: 'utf8' });
    console.log(stdout, stderr);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', outer], {
    encoding: 'utf8',
    cwd: join(import.meta.dirname, '../..'),
  });
  assert.match(stdout, /same/, stderr);
});
