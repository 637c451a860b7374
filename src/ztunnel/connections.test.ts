import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { Connections, type Judge, type LiveConnection } from './connections.ts';

const bob = 'spiffe://cluster.local/ns/shop/sa/bob' as SpiffeId;
const eve = 'spiffe://cluster.local/ns/shop/sa/eve' as SpiffeId;

function connection(podUid: string, source: SpiffeId | undefined, closed: MeshError[]): LiveConnection {
  return {
    podUid,
    direction: source === undefined ? 'outbound' : 'inbound',
    view: () => ({ src: '10.0.0.1:1', originalDst: null, actualDst: '10.0.0.2:80', protocol: 'HBONE' }),
    ...(source === undefined
      ? {}
      : {
          subject: {
            podUid,
            sourceIdentity: source,
            source: { ip: ip('10.0.0.1'), port: 1 as Port },
            destination: { ip: ip('10.0.0.2'), port: 80 as Port },
          },
        }),
    judgedUnder: 0,
    close: (error) => closed.push(error),
  };
}

test('a policy change closes exactly those now denied, with the field’s words and the policy', () => {
  let denied: SpiffeId | undefined;
  let version = 1;
  const judge: Judge = (subject) =>
    subject.sourceIdentity === denied
      ? { explain: 'no-eve says no', where: { policy: 'shop/no-eve', rule: 0 } }
      : undefined;
  const connections = new Connections(judge, () => version);
  const closedBob: MeshError[] = [];
  const closedEve: MeshError[] = [];
  const closedOut: MeshError[] = [];
  const fromBob = connection('a', bob, closedBob);
  connections.open(fromBob);
  connections.open(connection('a', eve, closedEve));
  connections.open(connection('a', undefined, closedOut));
  assert.equal(connections.rejudge(), 0);
  denied = eve;
  version = 2;
  assert.equal(connections.rejudge(), 1);
  assert.deepEqual([closedBob.length, closedEve.length, closedOut.length], [0, 1, 0]);
  assert.equal(closedEve[0]?.code, 'POLICY_CHANGED');
  assert.equal(closedEve[0]?.message, 'connection closed due to policy change: no-eve says no');
  assert.deepEqual(closedEve[0]?.details, { policy: 'shop/no-eve', rule: 0 });
  assert.equal(fromBob.judgedUnder, 2);
});

test('a change of one pod judges that pod’s connections only', () => {
  const connections = new Connections(
    () => ({ explain: 'no', where: {} }),
    () => 1,
  );
  const closedA: MeshError[] = [];
  const closedB: MeshError[] = [];
  connections.open(connection('a', bob, closedA));
  connections.open(connection('b', bob, closedB));
  assert.equal(connections.rejudge('b'), 1);
  assert.deepEqual([closedA.length, closedB.length], [0, 1]);
});

test('removing a pod ends its connections; a released one counts no more', () => {
  const connections = new Connections(
    () => undefined,
    () => 1,
  );
  const closed: MeshError[] = [];
  const inbound = connection('a', bob, closed);
  const outbound = connection('a', undefined, closed);
  connections.open(inbound);
  connections.open(outbound);
  assert.equal(connections.closeAll('b'), 0);
  assert.equal(connections.closeAll('a'), 2);
  assert.deepEqual(
    closed.map((error) => error.message),
    Array(2).fill('connection closed due to connection drain'),
  );
  connections.release(inbound);
  assert.equal(connections.size, 1);
  connections.release(outbound);
  connections.release(outbound);
  assert.equal(connections.size, 0);
});

test('the dump lists a pod’s connections by direction', () => {
  const connections = new Connections(
    () => undefined,
    () => 1,
  );
  connections.open(connection('a', bob, []));
  connections.open(connection('a', undefined, []));
  const views = connections.of('a');
  assert.equal(views.inbound.length, 1);
  assert.equal(views.outbound.length, 1);
  assert.deepEqual(connections.of('b'), { inbound: [], outbound: [] });
});
