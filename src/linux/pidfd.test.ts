import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { closeFd } from './netns.ts';
import { takeDescriptor } from './pidfd.ts';
import { openTerminal, TerminalStream } from './pty.ts';

test('the master of a terminal that only another process holds is ours again', async (t) => {
  const { masterFd, slavePath } = openTerminal();
  const holder = spawn('sh', ['-c', 'echo ready; sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit', masterFd],
  });
  t.after(() => holder.kill('SIGKILL'));
  closeFd(masterFd);
  await once(holder.stdout!, 'data');
  const terminal = new TerminalStream(takeDescriptor(holder.pid ?? 0, 3));
  t.after(() => terminal.destroy());
  const said = once(terminal, 'data');
  const writer = spawn('sh', ['-c', 'echo hello > "$0"', slavePath]);
  await once(writer, 'exit');
  assert.equal(String((await said)[0]), 'hello\r\n');
});

test('what is not there is said', () => {
  assert.throws(
    () => takeDescriptor(process.pid, 9999),
    (error) => error instanceof MeshError && error.message.includes('pidfd_getfd failed with EBADF'),
  );
});
