// Inside a network namespace of its own: a real ztunnel, started anew for each set of policies, and every connection of the
// set. Prints a line of JSON for each, with both verdicts. Arguments: the peer's program, a folder to write to, the sets.

import { once } from 'node:events';
import { Scope } from '#base/scope.ts';
import { authorize } from '#model/authorize.ts';
import type { SpiffeId } from '#model/identity.ts';
import { workloadOf } from '#model/samples.ts';
import { createStore } from '#model/store.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { newAuthority, newSecret } from '../loopback/hbone-peers.ts';
import {
  connected,
  OWN,
  ownState,
  prepareNetwork,
  refusalOf,
  serveAuthority,
  startApplications,
  startPeer,
  tunnel,
} from './peer-rig.ts';
import {
  type Attempt,
  DESTINATIONS,
  IDENTITIES,
  PORTS,
  type PolicySet,
  policySetOf,
  SOURCES,
} from './random-policies.ts';

const [peer, dir, ...seeds] = process.argv.slice(2) as [string, string, ...string[]];
const scope = new Scope('interop');

/** Our verdict, from the same facts. */
function ours({ policies, attached }: PolicySet, attempt: Attempt): { allowed: boolean; why: string } {
  const store = createStore({ localNode: 'n1' });
  const workload = workloadOf({ ...OWN, ips: DESTINATIONS, node: 'n1', authorizationPolicies: attached });
  store.apply({ addresses: [{ kind: 'workload', workload }], policies });
  const { verdict, explain } = authorize(store.policiesFor(workload), attempt);
  return { allowed: verdict === 'allow', why: explain };
}

async function theirs(attempt: Attempt, secrets: ReadonlyMap<SpiffeId, WorkloadSecret>): Promise<boolean> {
  const { sourceIp, identity, destination } = attempt;
  if (identity === undefined) return isGreeted(attempt);
  const refusal = await refusalOf(scope, (inner) =>
    tunnel(inner, secrets.get(identity)!, sourceIp, destination),
  );
  if (refusal !== undefined && refusal.details.status !== 401) throw refusal;
  return refusal === undefined;
}

/** The application's greeting is the sign that plaintext got through. */
async function isGreeted({ sourceIp, destination }: Attempt): Promise<boolean> {
  const socket = await connected(sourceIp, destination.ip, destination.port);
  let said = '';
  socket.on('data', (text: Buffer) => {
    said += text.toString();
  });
  socket.end();
  await once(socket, 'close');
  return said === 'hello';
}

prepareNetwork([...DESTINATIONS, ...SOURCES.v4, ...SOURCES.v6], PORTS);
await startApplications(scope, PORTS, (socket) => socket.end('hello'));
const authority = await newAuthority();
const ca = await serveAuthority(scope, authority, dir);
const secrets = new Map<SpiffeId, WorkloadSecret>();
for (const id of IDENTITIES) secrets.set(id, await newSecret(authority, id));
for (const seed of seeds) {
  const set = policySetOf(Number(seed));
  const running = await startPeer(peer, ca, dir, ownState(DESTINATIONS, set.policies, set.attached), {
    RUST_LOG: 'info,access=off',
  });
  try {
    for (const attempt of set.attempts) {
      const peerAllows = await theirs(attempt, secrets);
      process.stdout.write(`${JSON.stringify({ seed, attempt, peerAllows, ours: ours(set, attempt) })}\n`);
    }
  } finally {
    await running.kill();
  }
}
process.exit();
