// ztunnel's own workload (ztunnel.md §7.8): its metrics over HBONE, judged like anybody's.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import type { MeshError } from '#base/errors.ts';
import { createHbonePool } from '#hbone/pool.ts';
import type { SpiffeId } from '#model/identity.ts';
import { matchOf, type Policy } from '#model/policy.ts';
import { policyOf } from '#model/samples.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createAuthority } from '#tls/issue.ts';
import { until } from '../lib/until.ts';
import { dial, newSecret, record, scoped } from './hbone-peers.ts';
import { ownAddress, startPlane, testAuthority, workload } from './ztunnel-rig.ts';

const ADDRESS = ownAddress(2);
const COLLECTOR = 'spiffe://cluster.local/ns/monitoring/sa/prometheus' as SpiffeId;

test(
  'metrics are collected over mutual TLS; a policy refuses and cuts there too; a drain closes the listener',
  scoped(async (scope) => {
    const authority = await testAuthority();
    const own = {
      podName: 'ztunnel-x',
      podNamespace: 'istio-system',
      serviceAccount: 'ztunnel',
      selfPort: 0,
    };
    const { plane, access } = await startPlane('n1', authority.client, { ...own, drainMs: 10 });
    scope.onClose(() => plane.close());
    const self = workload('ztunnel-x', ADDRESS, 'n1', {
      namespace: 'istio-system',
      serviceAccount: 'ztunnel',
    });
    plane.store.apply({ addresses: [{ kind: 'workload', workload: self }] });

    const secret = await newSecret(await createAuthority({ validDays: 1, ...authority }), COLLECTOR);
    const pool = createHbonePool({
      dial,
      secret: async () => secret,
      log: silentLogger,
      scope,
      clock: systemClock,
    });
    const key = {
      source: COLLECTOR,
      expected: ['spiffe://cluster.local/ns/istio-system/sa/ztunnel' as SpiffeId],
      destination: { ip: ip(ADDRESS), port: plane.ports.self as Port },
      downstreamIp: '127.0.0.1',
    };
    const connect = () => pool.connect(key, `${ADDRESS}:${plane.ports.stats}`, {});

    const { stream } = await connect();
    const answer = record(stream);
    stream.write(Buffer.from('GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
    await until('the metrics', () => answer.text.includes('# EOF'));
    assert.match(answer.text, /istio_build\{component="ztunnel"/);
    stream.end();
    await until('the line', () => access('dst.workload="ztunnel-x"', 'bytes_recv=').length > 0);
    assert.match(access('dst.workload="ztunnel-x"')[0]!, /src\.identity="spiffe:.*prometheus"/);

    const live = await connect();
    const cut = record(live.stream);
    const deny: Policy = policyOf({
      name: 'nobody',
      namespace: 'istio-system',
      action: 'Deny',
      rules: [{ clauses: [[matchOf({ principals: [{ kind: 'presence' }] })]] }],
    });
    plane.store.apply({ policies: [deny] });
    await until('the live one is cut', () => cut.outcome !== undefined);
    const refused = await connect().then(
      () => assert.fail('let in'),
      (error: MeshError) => error,
    );
    assert.equal(refused.details.status, 401);

    await plane.drain();
    await assert.rejects(dial({ ip: ip(ADDRESS), port: key.destination.port }), /ECONNREFUSED/);
  }),
);

test(
  'without a name of its own there is no such listener',
  scoped(async (scope) => {
    const { plane } = await startPlane('n1', (await testAuthority()).client, { podName: 'ztunnel-x' });
    scope.onClose(() => plane.close());
    assert.equal(plane.ports.self, undefined);
  }),
);
