// An informer against the embedded API server: first list, live changes, and a restart of the server in between.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { objectKey } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { createApiServer } from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';
import { until } from '../lib/until.ts';
import { adminEndpoint } from './apiserver-rig.ts';

const configMap = (name: string): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default', labels: { test: 'yes' } },
});

test('an informer follows the server through a restart without losing or repeating anything', async (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-reflector-'));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const open = () =>
    createApiServer({ log: silentLogger }, { stateDir, dnsNames: ['localhost'], ips: ['127.0.0.1'] });
  let server = await open();
  t.after(() => server.close());
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const client = createRestClient(adminEndpoint(server, port));
  t.after(() => client.close());
  await client.create(CONFIG_MAPS, configMap('before'));
  await client.create(CONFIG_MAPS, {
    ...configMap('unlabelled'),
    metadata: { name: 'unlabelled', namespace: 'default' },
  });

  const told: string[] = [];
  const informer = startInformer({ client, log: silentLogger }, CONFIG_MAPS, { labelSelector: 'test=yes' });
  t.after(() => informer.close());
  informer.addHandlers({
    upsert: (object, old) => told.push(`${old === undefined ? 'new' : 'changed'} ${object.metadata.name}`),
    remove: (object) => told.push(`gone ${object.metadata.name}`),
  });
  await informer.synced;
  assert.deepEqual([...informer.all()].map(objectKey), ['default/before']);
  await client.create(CONFIG_MAPS, configMap('doomed'));
  await until('the second object', () => told.length === 2);

  await server.close();
  server = await open();
  await server.listen({ host: '127.0.0.1', port });
  await client.delete(CONFIG_MAPS, 'doomed', { namespace: 'default' });
  await client.patch(CONFIG_MAPS, 'before', 'merge', { data: { a: '1' } }, { namespace: 'default' });
  await client.create(CONFIG_MAPS, configMap('after'));
  await until('three more changes', () => told.length === 5);
  assert.deepEqual(told, ['new before', 'new doomed', 'gone doomed', 'changed before', 'new after']);

  // Out of the selection is gone, for whoever selects.
  await client.patch(CONFIG_MAPS, 'after', 'merge', { metadata: { labels: null } }, { namespace: 'default' });
  await until('the end of the label', () => told.length === 6);
  assert.equal(told[5], 'gone after');
});
