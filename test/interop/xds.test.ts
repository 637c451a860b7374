// A real ztunnel (PEER_ZTUNNEL) on our xDS server: the whole state, changes, a resumption without resending, and the
// beginning on demand (control-plane.md §4.2, §4.4).

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { WITHOUT_PEER } from '../lib/peer-program.ts';

interface Outcome {
  readonly node: string;
  readonly subscriptions: readonly (readonly [string, boolean])[];
  readonly policies: number;
  readonly resumed: readonly { readonly type: string; readonly resources: number }[];
}

async function outcome(env: Readonly<Record<string, string>>): Promise<Outcome> {
  const child = join(import.meta.dirname, 'xds-child.ts');
  const script = `ip link set lo up && exec "${process.execPath}" "${child}"`;
  const { stdout } = await promisify(execFile)('unshare', ['-n', 'sh', '-c', script], {
    env: { ...process.env, ...env },
    timeout: 240_000,
  });
  return JSON.parse(stdout) as Outcome;
}

test('everything, a change, and after a restart of the server only what vanished', {
  skip: WITHOUT_PEER,
}, async () => {
  const { node, subscriptions, policies, resumed } = await outcome({});
  assert.match(node, /^ztunnel~/);
  assert.deepEqual(Object.fromEntries(subscriptions), {
    [ADDRESS_TYPE_URL]: true,
    [AUTHORIZATION_TYPE_URL]: true,
  });
  assert.equal(policies, 1);
  const resent = resumed.filter(({ resources }) => resources > 0);
  assert.deepEqual(resent, [{ type: ADDRESS_TYPE_URL, resources: 1 }]);
});

test('on demand it subscribes to policies, and to no addresses until it needs one', {
  skip: WITHOUT_PEER,
}, async () => {
  const { subscriptions, policies } = await outcome({ XDS_ON_DEMAND: 'true' });
  assert.deepEqual(Object.fromEntries(subscriptions), {
    [ADDRESS_TYPE_URL]: false,
    [AUTHORIZATION_TYPE_URL]: true,
  });
  assert.equal(policies, 1);
});
