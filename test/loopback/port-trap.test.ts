// The first screen's line about port 15008, from the event on a NetworkPolicy in a real API server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { followPortTraps, type PortTrap, renderPortTrap } from '#cli/screen/port-trap.ts';
import { styleFor } from '#cli/style.ts';
import { EVENTS, type KubeObject } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { until } from '../lib/until.ts';
import { adminEndpoint, withApiServer } from './apiserver-rig.ts';

const event = (name: string, reason: string, at: string): KubeObject =>
  ({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace: 'default' },
    involvedObject: { kind: 'NetworkPolicy', namespace: 'default', name: 'only-8080', uid: 'u1' },
    reason,
    message: `${reason} of ${at}`,
    type: 'Warning',
    firstTimestamp: at,
    lastTimestamp: at,
  }) as KubeObject;

test('a policy that closes the port of the mesh is one line; other events and former starts are none', async (t) => {
  await withApiServer(async ({ server, port }) => {
    const client = createRestClient(adminEndpoint(server, port));
    t.after(() => client.close());
    const create = (object: KubeObject): Promise<unknown> => client.create(EVENTS, object, 'default');
    await create(event('former', 'MeshPortBlocked', '2026-01-01T00:00:00Z'));
    const ending = new AbortController();
    t.after(() => ending.abort());
    const told: PortTrap[] = [];
    followPortTraps(client, ending.signal, '2026-01-02T00:00:00.000Z', (trap) => told.push(trap));
    await create(event('other', 'Unhealthy', '2026-01-02T10:00:00Z'));
    await create(event('now', 'MeshPortBlocked', '2026-01-02T10:00:01Z'));
    await create(event('again', 'MeshPortBlocked', '2026-01-02T10:00:01Z'));
    await create(event('last', 'MeshPortBlocked', '2026-01-02T10:00:02Z'));
    await until('both lines', () => told.length >= 2);
    assert.deepEqual(
      told.map((trap) => renderPortTrap(trap, styleFor(false, {}))),
      [
        '10:00:01 BLOCKED by NetworkPolicy default/only-8080: MeshPortBlocked of 2026-01-02T10:00:01Z',
        '10:00:02 BLOCKED by NetworkPolicy default/only-8080: MeshPortBlocked of 2026-01-02T10:00:02Z',
      ],
    );
    ending.abort();
  });
});
