import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { createLogger } from '#telemetry/log.ts';
import { DescriptorGuard } from './descriptor-guard.ts';

function rig(limit: number | 'unlimited') {
  const lines: string[] = [];
  let nowMs = 0;
  let shown: number | string = limit;
  const guard = new DescriptorGuard({
    log: createLogger('inpod', { format: 'plain', level: 'info', write: (line) => lines.push(line) }),
    clock: { now: () => 0, monotonicMs: () => nowMs },
    readLimits: () => `Max processes  7  7  processes\nMax open files            ${shown}   4096   files\n`,
  });
  return {
    guard,
    lines,
    pass: (ms: number) => {
      nowMs += ms;
    },
    set: (value: number) => {
      shown = value;
    },
  };
}

test('a sixteenth of the limit stays free, at least 16 and at most 256', () => {
  for (const [limit, first] of [
    [100, 84],
    [1024, 960],
    [1_048_576, 1_048_320],
  ] as const) {
    const { guard } = rig(limit);
    assert.deepEqual([guard.isFull(first - 1), guard.isFull(first)], [false, true], `limit ${limit}`);
  }
});

test('without a limit nothing is refused', () => {
  assert.equal(rig('unlimited').guard.isFull(5_000_000), false);
});

test('a limit that is changed at run time counts within a second', () => {
  const { guard, pass, set } = rig(1024);
  assert.equal(guard.isFull(90), false);
  set(100);
  pass(1000);
  assert.equal(guard.isFull(90), true);
});

test('a thousand refusals are one line, and so is the end of it', () => {
  const { guard, lines, pass } = rig(100);
  for (let each = 0; each < 1000; each++)
    assert.throws(() => guard.check(90), { code: 'DESCRIPTORS_EXHAUSTED' });
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /descriptors are used up: .*limit=100 reserve=16 refused=1/);
  pass(10_000);
  assert.throws(() => guard.check(99));
  assert.match(lines[1]!, /refused=1001/);
  guard.check(20);
  assert.equal(lines.length, 2, 'a moment later: the same incident');
  pass(2000);
  guard.check(20);
  guard.check(20);
  assert.equal(lines.length, 3);
  assert.match(lines[2]!, /free again.*refused=1001/);
});

/** Whether a connection is answered that leaves so many numbers below the limit. */
async function isTaken(left: number, isAttendant: boolean): Promise<boolean> {
  const { guard, set, pass } = rig('unlimited');
  const server = net.createServer((socket) => socket.destroyed || socket.end('taken'));
  guard.watch(server, { isAttendant });
  // Before the guard's own.
  server.prependListener('connection', (socket) => {
    set((socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd + left);
    pass(1000);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  let answer = '';
  client.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  client.on('error', () => {}); // A refusal may be a reset.
  await once(client, 'close');
  server.close();
  return answer === 'taken';
}

test('a full table: DNS over TCP is refused; admin, metrics and readiness have half of the reserve', async () => {
  // Of so small a limit 16 are the reserve.
  assert.deepEqual([await isTaken(17, false), await isTaken(16, false)], [true, false]);
  assert.deepEqual([await isTaken(9, true), await isTaken(8, true)], [true, false]);
});
