// Inside a network namespace of its own: a real ztunnel, our own server beside it, and clients with certificates of every
// kind. One policy lets one identity in, so that it shows whom each side took the client for. Prints a line of JSON for
// each case. Arguments: the peer's program, a folder to write to.

import { Scope } from '#base/scope.ts';
import { authorize } from '#model/authorize.ts';
import { matchOf } from '#model/policy.ts';
import { policyOf } from '#model/samples.ts';
import { ip } from '#net/ip.ts';
import type { Authority, IssueOptions } from '#tls/issue.ts';
import { createWorkloadContext, type TlsPolicy } from '#tls/options.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { newIntermediate } from '../lib/crls.ts';
import { CLIENT_ID, newAuthority, newSecret, startServer } from '../loopback/hbone-peers.ts';
import {
  OWN,
  OWN_ID,
  ownState,
  prepareNetwork,
  refusalOf,
  serveAuthority,
  startApplications,
  startPeer,
  tunnel,
} from './peer-rig.ts';

const [peer, dir] = process.argv.slice(2) as [string, string];
const scope = new Scope('interop');
const TARGET = ip('10.60.0.1');
const SOURCE = ip('10.61.0.1');
const PORT = 8080;
const HOUR_MS = 3_600_000;

type Outcome = 'refused' | 'denied' | 'allowed';

/** A client's certificate as it is asked for, without the checks of a well-behaved client. */
async function presented(
  authority: Authority,
  options: Partial<IssueOptions>,
  roots: string,
  more: { readonly chain?: readonly string[]; readonly tls?: TlsPolicy } = {},
): Promise<WorkloadSecret> {
  const { certPem, keyPem } = await authority.issue({ validForMs: HOUR_MS, ...options });
  const material = { keyPem: keyPem!, chainPem: [certPem, ...(more.chain ?? [])], rootsPem: [roots] };
  return {
    identity: CLIENT_ID,
    chainPem: material.chainPem,
    rootsPem: material.rootsPem,
    serialNumber: '',
    notBefore: new Date(0),
    notAfter: new Date(0),
    context: createWorkloadContext(material, more.tls),
  };
}

async function outcome(run: (attempt: Scope) => Promise<unknown>): Promise<Outcome> {
  const refusal = await refusalOf(scope, run);
  if (refusal === undefined) return 'allowed';
  if (refusal.details.status === 401) return 'denied';
  if (refusal.code === 'TLS_HANDSHAKE_FAILED') return 'refused';
  throw refusal;
}

prepareNetwork([TARGET, SOURCE], [PORT]);
await startApplications(scope, [PORT], () => {});
const root = await newAuthority();
const foreign = await newAuthority();
const between = await newIntermediate(root, 'between');
const ca = await serveAuthority(scope, root, dir);

const policy = policyOf({
  namespace: OWN.namespace,
  rules: [
    { clauses: [[matchOf({ principals: [{ kind: 'exact', text: 'cluster.local/ns/shop/sa/web' }] })]] },
  ],
});
const own = await newSecret(root, OWN_ID);
const server = await startServer(scope, {
  secret: async () => own,
  onRequest: (request) => {
    const destination = { ip: TARGET, port: PORT };
    const facts = { sourceIp: SOURCE, identity: request.peer.identity, destination };
    if (authorize([policy], facts).verdict === 'allow') request.accept({});
    else request.refuse(401);
  },
});

const OTHER = 'spiffe://cluster.local/ns/shop/sa/other';
const FOREIGN = 'spiffe://elsewhere.example/ns/shop/sa/web';
const under = (options: Partial<IssueOptions>) => presented(root, options, root.certPem);
const secrets: Readonly<Record<string, WorkloadSecret>> = {
  'the identity that is let in': await under({ uris: [CLIENT_ID] }),
  'another identity': await under({ uris: [OTHER] }),
  'two identities, the right one first': await under({ uris: [CLIENT_ID, OTHER] }),
  'two identities, the right one last': await under({ uris: [OTHER, CLIENT_ID] }),
  'another trust domain': await under({ uris: [FOREIGN] }),
  'another trust domain first': await under({ uris: [FOREIGN, CLIENT_ID] }),
  'another trust domain last': await under({ uris: [CLIENT_ID, FOREIGN] }),
  'a web address first': await under({ uris: ['https://example.com/', CLIENT_ID] }),
  'a host name besides': await under({ dnsNames: ['web.shop'], uris: [CLIENT_ID] }),
  'a host name only': await under({ dnsNames: ['web.shop'] }),
  'no name at all': await under({ commonName: 'web' }),
  'a path that is too long': await under({ uris: [`${CLIENT_ID}/more`] }),
  'no service account': await under({ uris: ['spiffe://cluster.local/ns/shop'] }),
  'an empty service account': await under({ uris: ['spiffe://cluster.local/ns/shop/sa/'] }),
  'an empty namespace': await under({ uris: ['spiffe://cluster.local/ns//sa/web'] }),
  'capital letters': await under({ uris: ['spiffe://Cluster.Local/ns/shop/sa/web'] }),
  'a certificate for servers only': await under({ uris: [CLIENT_ID], server: true }),
  'a certificate for clients only': await under({ uris: [CLIENT_ID], client: true }),
  'an expired certificate': await under({
    uris: [CLIENT_ID],
    backdateMs: 2 * HOUR_MS,
    validForMs: -HOUR_MS,
  }),
  'a certificate of tomorrow': await under({
    uris: [CLIENT_ID],
    backdateMs: -HOUR_MS,
    validForMs: 2 * HOUR_MS,
  }),
  'a foreign root': await presented(foreign, { uris: [CLIENT_ID] }, root.certPem),
  'an intermediate authority': await presented(between, { uris: [CLIENT_ID] }, root.certPem, {
    chain: [between.certPem],
  }),
  'an intermediate authority that is not sent': await presented(between, { uris: [CLIENT_ID] }, root.certPem),
  'the hybrid group only': await presented(root, { uris: [CLIENT_ID] }, root.certPem, {
    tls: { allowsTls12: false, requiresPostQuantum: true },
  }),
};

const running = await startPeer(peer, ca, dir, ownState([TARGET], [policy]));
try {
  for (const [name, secret] of Object.entries(secrets)) {
    const target = { ip: TARGET, port: PORT };
    const theirs = await outcome((attempt) => tunnel(attempt, secret, SOURCE, target));
    const ours = await outcome((attempt) => tunnel(attempt, secret, ip('127.0.0.1'), target, server.address));
    process.stdout.write(`${JSON.stringify({ name, theirs, ours })}\n`);
  }
} finally {
  await running.kill();
}
process.exit();
