// The kernel's memory of connections, of a namespace of its own: what is entered is listed, and forgotten alone.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { forgetFlows, listFlows, type OlderConnection, trackConnections } from '#linux/conntrack.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { ip } from '#net/ip.ts';

const NAME = `cvct${process.pid}`;
const ends = { 4: ['10.0.0.1', '10.0.0.2'], 6: ['fd00::1', 'fd00::2'] } as const;
let netns: number;

before(async () => {
  await warmThreadPool();
  execFileSync('ip', ['netns', 'add', NAME]);
  netns = openNetns(`/var/run/netns/${NAME}`);
});
after(() => {
  closeFd(netns);
  execFileSync('ip', ['netns', 'del', NAME]);
});

function connection(family: 4 | 6, port: number, mark?: number): OlderConnection {
  const [from, to] = ends[family];
  return {
    from: { ip: ip(from), port },
    to: { ip: ip(to), port: 80 },
    stage: 'established',
    ...(mark === undefined ? {} : { mark }),
  };
}

test('an empty namespace has none', () => {
  assert.deepEqual(listFlows(netns), []);
  assert.equal(
    forgetFlows(netns, () => true),
    0,
  );
});

test('more than fit into one call are entered once, listed, and forgotten by choice', () => {
  const all = Array.from({ length: 700 }, (_, index) =>
    connection(index % 2 === 0 ? 4 : 6, 1000 + index, index),
  );
  trackConnections(netns, all);
  // Known already.
  trackConnections(netns, [...all, connection(4, 5000)]);
  const flows = listFlows(netns);
  assert.equal(flows.length, 701);
  const one = flows.find(({ from }) => from.port === 1003);
  assert.deepEqual(one, {
    protocol: 'tcp',
    from: { ip: 'fd00::1', port: 1003 },
    to: { ip: 'fd00::2', port: 80 },
    answeredBy: { ip: 'fd00::2', port: 80 },
    isRedirected: false,
    isMasqueraded: false,
    isAnswered: true,
    isEstablished: true,
    hasEnded: false,
    mark: 3,
  });
  assert.equal(
    forgetFlows(netns, ({ from }) => from.port !== 1003),
    700,
  );
  assert.deepEqual(listFlows(netns), [one]);
  forgetFlows(netns, () => true);
});

test('what the kernel refuses is told, and the others are entered', () => {
  const { from } = connection(4, 1);
  // A connection of two families.
  const impossible: OlderConnection = { from, to: { ip: ip('fd00::2'), port: 80 }, stage: 'established' };
  assert.throws(
    () => trackConnections(netns, [connection(4, 1000), impossible, connection(4, 1001)]),
    (error) => error instanceof MeshError && error.code === 'SYSCALL_FAILED',
  );
  assert.equal(listFlows(netns).length, 2);
  forgetFlows(netns, () => true);
});
