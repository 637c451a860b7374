// Where the field's ztunnel would send a connection, and where we would: hundreds of small meshes, many destinations each.
// By hand only: PEER_ZTUNNEL names a release build of the real one, which runs alone in a network namespace with nothing
// but loopback, so that every dial fails and its access log says whom it meant.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Scope } from '#base/scope.ts';
import { route } from '#model/route.ts';
import { createStore } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import { WITHOUT_PEER } from '../lib/peer-program.ts';
import { type Mesh, meshOf, SOURCE } from './meshes.ts';
import { field, LOOPBACK, Namespace, PeerZtunnel } from './peer.ts';

const MESHES = 250;
const SEED = Number(process.env.SEED ?? 20_260_820);

const scope = new Scope('test');
let peer: PeerZtunnel;
let meshes: readonly Mesh[] = [];

before(async () => {
  if (WITHOUT_PEER !== false) return;
  meshes = fc.sample(fc.integer({ min: 0, max: 2 ** 31 }), { numRuns: MESHES, seed: SEED }).map(meshOf);
  const addresses = meshes.flatMap((mesh) => mesh.addresses);
  peer = new PeerZtunnel(scope, new Namespace(scope, `cvir${process.pid}`), SOURCE, addresses);
  await peer.ready();
});

after(() => scope.close());

/** What a log line of the peer says about its decision. */
function peerDecision(line: string): string {
  if (line.includes('connection failed')) return 'refuse';
  const names = ['dst.addr', 'dst.hbone_addr', 'dst.service', 'dst.workload', 'dst.identity'];
  return names.map((name) => field(line, name)).join(' ');
}

function kindOf(decision: string): string {
  const authority = decision.split(' ')[1];
  if (authority === undefined) return 'refused';
  if (authority === '-') return 'plain';
  return authority.includes('example:') ? 'to another network' : 'tunnel';
}

/** Everything that our decision may be, whatever chance says. */
function ourDecisions(mesh: Mesh, originalDst: SocketAddress): Set<string> {
  const store = createStore({ localNode: SOURCE.node });
  store.apply({ addresses: [{ kind: 'workload', workload: SOURCE }, ...mesh.addresses] });
  const found = new Set<string>();
  for (let step = 0; step < 400; step++) {
    let state = step * 7919 + 1;
    const random = (): number => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    const decision = route({
      view: store,
      network: '',
      source: SOURCE,
      downstreamIp: LOOPBACK,
      originalDst,
      random,
    });
    const nameOf = (workload: Workload | undefined): string => workload?.name ?? '-';
    switch (decision.kind) {
      case 'refuse':
        found.add('refuse');
        break;
      case 'resolve':
        // No name can be resolved in the peer's namespace.
        found.add('refuse');
        break;
      default: {
        const isTunnel = decision.kind === 'hbone' || decision.kind === 'double-hbone';
        const workload = decision.kind === 'passthrough' ? undefined : decision.destination;
        found.add(
          [
            formatSocketAddress(decision.dial),
            isTunnel ? decision.authority : '-',
            decision.kind === 'passthrough' ? '-' : (decision.service?.hostname ?? '-'),
            nameOf(workload),
            isTunnel ? decision.expected.at(-1) : '-',
          ].join(' '),
        );
      }
    }
  }
  return found;
}

test('the same decision for every destination of every mesh', {
  skip: WITHOUT_PEER,
  timeout: 280_000,
}, async () => {
  const counts = new Map<string, number>();
  const wrong: string[] = [];
  let asked = 0;
  for (const mesh of meshes)
    for (const dst of mesh.destinations) {
      const ours = ourDecisions(mesh, dst);
      for (let round = 0; round < 2; round++) {
        asked += 1;
        const { socket, from } = await peer.connect(dst);
        socket.resume();
        const line = await peer.line(`${LOOPBACK}:${from}`);
        socket.destroy();
        const theirs = peerDecision(line);
        const kind = kindOf(theirs);
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
        if (!ours.has(theirs))
          wrong.push(
            `mesh ${mesh.seed}, ${formatSocketAddress(dst)}: the peer ${theirs} (${field(line, 'error')}), we ${[...ours].join(' | ')}`,
          );
      }
    }
  console.log(`${asked} connections in ${meshes.length} meshes:`, Object.fromEntries(counts));
  assert.deepEqual(wrong.slice(0, 12), [], `${wrong.length} differ`);
});
