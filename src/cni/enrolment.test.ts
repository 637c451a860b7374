import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PODS, type Pod } from '#k8s/objects.ts';
import { ip } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createEnrolment } from './enrolment.ts';
import { PodTable } from './pod-table.ts';

const POD: Pod = {
  apiVersion: 'v1',
  kind: PODS.kind,
  metadata: { name: 'web', namespace: 'shop', uid: 'u1' },
  spec: { containers: [] },
};

/** What is warned of when a pod with these addresses is enrolled. */
async function warnings(ipv6: boolean, ...addresses: string[]): Promise<unknown[]> {
  const warned: unknown[] = [];
  const log: Logger = { ...silentLogger, warn: (text, fields) => warned.push([text, fields]) };
  const table = new PodTable();
  const done = (): Promise<void> => Promise.resolve();
  const enrolment = createEnrolment(
    {
      table,
      rules: { apply: done, remove: done, present: () => Promise.resolve(true) },
      probes: { install: done, set: done, remove: done, uninstall: done },
      zds: { add: done, del: done } as never,
      client: { patch: () => Promise.resolve(POD) as never },
      findNetns: () => undefined,
      hostNetns: { dev: 0n, ino: 0n } as never,
      log,
    },
    { ipv6, dnsCapture: false },
  );
  await enrolment.add(POD, addresses.map(ip), { netnsPath: '/proc/self/ns/net' });
  table.close();
  return warned;
}

test('a pod whose IPv6 traffic is not captured is named in a warning, no other', async () => {
  assert.deepEqual(await warnings(true, '10.244.1.2', 'fd00:10:244:1::2'), []);
  assert.deepEqual(await warnings(false, '10.244.1.2'), []);
  const [[text, fields] = [], ...more] = (await warnings(false, '10.244.1.2', 'fd00:10:244:1::2')) as [
    string,
    Record<string, unknown>,
  ][];
  assert.deepEqual(more, []);
  assert.match(String(text), /not captured.*AMBIENT_IPV6=true/);
  assert.equal(fields?.ip, 'fd00:10:244:1::2');
  assert.equal(fields?.name, 'web');
});
