// What the definitions in deploy/crds refuse, object by object, as an API server tells it. With PEER_CRDS=FILE (the
// definitions of Istio's chart `base`) the same objects are put to those, by the same server.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import { SERVICE_ENTRIES, WORKLOAD_ENTRIES } from '#k8s/mesh-objects.ts';
import {
  AUTHORIZATION_POLICIES,
  type KubeObject,
  PEER_AUTHENTICATIONS,
  type Resource,
} from '#k8s/objects.ts';
import { groupVersionOf } from '#k8s/path.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { apiStatusOf } from '#k8s/status.ts';
import { createApiServer } from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';
import { adminEndpoint } from './apiserver-rig.ts';

const OURS = join(import.meta.dirname, '../../deploy/crds');
const THEIRS = process.env.PEER_CRDS;

type Spec = Record<string, unknown>;
interface Case {
  readonly resource: Resource;
  readonly what: string;
  readonly spec: Spec;
  /** Undefined: accepted. Else what the refusal names. */
  readonly refused?: RegExp;
}

const web = { matchLabels: { app: 'web' } };
const gateway = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'wp' };
const source = (fields: Spec): Spec => ({ rules: [{ from: [{ source: fields }] }] });
const entry = (fields: Spec): Spec => ({ hosts: ['a.test'], ...fields });
const port = (number: number, name = `p${number}`): Spec => ({ number, name, protocol: 'TCP' });

const of =
  <T extends KubeObject>(resource: Resource<T>) =>
  (what: string, spec: Spec, refused?: RegExp): Case => ({
    resource: resource as Resource,
    what,
    spec,
    ...(refused === undefined ? {} : { refused }),
  });
const policy = of(AUTHORIZATION_POLICIES);
const peer = of(PEER_AUTHENTICATIONS);
const serviceEntry = of(SERVICE_ENTRIES);
const workloadEntry = of(WORKLOAD_ENTRIES);

const CASES: readonly Case[] = [
  policy('a selector', { selector: web }),
  policy('targets', { targetRefs: [gateway] }),
  policy('a selector and a target', { selector: web, targetRef: gateway }, /spec/),
  policy('a selector and targets', { selector: web, targetRefs: [gateway] }, /spec/),
  policy('a target and targets', { targetRef: gateway, targetRefs: [gateway] }, /spec/),
  policy('17 targets', { targetRefs: Array.from({ length: 17 }, () => gateway) }, /targetRefs/),
  policy('a target without a name', { targetRefs: [{ kind: 'Gateway' }] }, /name/),
  policy('a target of no kind', { targetRefs: [{ ...gateway, kind: '' }] }, /kind/),
  policy('a target of a kind with a dot', { targetRefs: [{ ...gateway, kind: 'a.b' }] }, /kind/),
  policy('a target of a group in capitals', { targetRefs: [{ ...gateway, group: 'Gateway' }] }, /group/),
  policy('a target elsewhere', { targetRefs: [{ ...gateway, namespace: 'other' }] }, /namespace/),
  policy('an unknown action', { action: 'LOG' }, /action/),
  policy('a wildcard in a label', { selector: { matchLabels: { app: 'we*' } } }, /matchLabels/),
  policy('a wildcard in a label’s name', { selector: { matchLabels: { 'a*': 'web' } } }, /matchLabels/),
  policy('a label without a name', { selector: { matchLabels: { '': 'web' } } }, /matchLabels/),
  policy('a label of 64', { selector: { matchLabels: { app: 'x'.repeat(64) } } }, /matchLabels/),
  policy('accounts', source({ serviceAccounts: ['ns/a', 'b'] })),
  policy('accounts and addresses', source({ serviceAccounts: ['a'], ipBlocks: ['10.0.0.0/8'] })),
  policy(
    'accounts and principals',
    source({ serviceAccounts: ['a'], principals: ['x/ns/a/sa/b'] }),
    /source/,
  ),
  policy('accounts and no namespaces', source({ notServiceAccounts: ['a'], notNamespaces: ['b'] }), /source/),
  policy(
    '17 accounts',
    source({ serviceAccounts: Array.from({ length: 17 }, (_, i) => `a${i}`) }),
    /serviceAccounts/,
  ),
  policy('trust domains', source({ trustDomains: ['example.org'] })),
  policy('513 rules', { rules: Array.from({ length: 513 }, () => ({})) }, /rules/),
  policy('a condition without a key', { rules: [{ when: [{ values: ['a'] }] }] }, /key/),
  peer('a mode', { mtls: { mode: 'STRICT' } }),
  peer('an unknown mode', { mtls: { mode: 'MAYBE' } }, /mode/),
  peer('ports and a selector', { selector: web, portLevelMtls: { '8080': { mode: 'DISABLE' } } }),
  peer('ports without a selector', { portLevelMtls: { '8080': { mode: 'DISABLE' } } }, /spec/),
  peer(
    'ports and an empty selector',
    { selector: {}, portLevelMtls: { '8080': { mode: 'DISABLE' } } },
    /spec/,
  ),
  peer('no ports', { selector: web, portLevelMtls: {} }, /portLevelMtls/),
  peer('port 0', { selector: web, portLevelMtls: { '0': { mode: 'STRICT' } } }, /portLevelMtls/),
  peer('port 65536', { selector: web, portLevelMtls: { '65536': { mode: 'STRICT' } } }, /portLevelMtls/),
  peer(
    'a port that is none',
    { selector: web, portLevelMtls: { http: { mode: 'STRICT' } } },
    /portLevelMtls/,
  ),
  peer('a wildcard in a label', { selector: { matchLabels: { app: '*' } } }, /matchLabels/),
  serviceEntry('a host', entry({ ports: [port(80)], resolution: 'DNS' })),
  serviceEntry('no host', { hosts: [] }, /hosts/),
  serviceEntry('hosts left out', {}, /hosts/),
  serviceEntry('every host', { hosts: ['*'] }, /hosts/),
  serviceEntry('a port twice', entry({ ports: [port(80), port(80, 'again')] }), /ports/),
  serviceEntry('port 0', entry({ ports: [port(0)] }), /number/),
  serviceEntry('port 65536', entry({ ports: [port(65_536)] }), /number/),
  serviceEntry('a port without a name', entry({ ports: [{ number: 80 }] }), /name/),
  serviceEntry('a range and STATIC', entry({ addresses: ['10.0.0.0/8'], resolution: 'STATIC' })),
  serviceEntry('a range and DNS', entry({ addresses: ['10.0.0.0/8'], resolution: 'DNS' }), /spec/),
  serviceEntry('endpoints without resolution', entry({ endpoints: [{ address: '10.0.0.1' }] }), /spec/),
  serviceEntry(
    'endpoints and a selector',
    entry({
      resolution: 'STATIC',
      endpoints: [{ address: '10.0.0.1' }],
      workloadSelector: { labels: { a: 'b' } },
    }),
    /spec/,
  ),
  serviceEntry(
    'two endpoints for one name',
    entry({ resolution: 'DNS_ROUND_ROBIN', endpoints: [{ address: 'a.test' }, { address: 'b.test' }] }),
    /spec/,
  ),
  serviceEntry(
    'an endpoint without an address',
    entry({ resolution: 'STATIC', endpoints: [{ labels: { a: 'b' } }] }),
    /endpoints/,
  ),
  serviceEntry(
    'a socket with ports',
    entry({ resolution: 'STATIC', endpoints: [{ address: 'unix:///run/a', ports: { http: 80 } }] }),
    /endpoints/,
  ),
  serviceEntry('an unknown resolution', entry({ resolution: 'MAYBE' }), /resolution/),
  serviceEntry('a wildcard in a label', entry({ workloadSelector: { labels: { app: 'a*' } } }), /labels/),
  workloadEntry('an address', { address: '10.0.0.1', ports: { http: 80 } }),
  workloadEntry('a network alone', { network: 'n1' }),
  workloadEntry('neither', { labels: { a: 'b' } }, /spec/),
  workloadEntry('a relative socket', { address: 'unix://run/a' }, /address/),
  workloadEntry('a socket that is a folder', { address: 'unix:///run/' }, /address/),
  workloadEntry('a socket with ports', { address: 'unix:///run/a', ports: { http: 80 } }, /spec/),
  workloadEntry('a port 0', { address: '10.0.0.1', ports: { http: 0 } }, /ports/),
  workloadEntry('a port with a name that is none', { address: '10.0.0.1', ports: { 'a b': 80 } }, /ports/),
];

async function verdicts(
  crds: readonly string[],
  judge: (verdict: (test: Case) => Promise<string>) => Promise<void>,
) {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-crds-'));
  const server = await createApiServer({ log: silentLogger }, { stateDir: folder, ips: ['127.0.0.1'], crds });
  let client: KubeClient | undefined;
  try {
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    client = createRestClient(adminEndpoint(server, port));
    const { create } = client;
    let count = 0;
    await judge(({ resource, spec }) =>
      create(
        resource,
        {
          apiVersion: groupVersionOf(resource),
          kind: resource.kind,
          metadata: { name: `case-${count++}`, namespace: 'default' },
          spec,
        } as KubeObject,
        'default',
      ).then(
        () => '',
        (error: unknown) => {
          assert.equal(apiStatusOf(error)?.status, 422, String(error));
          return String(error);
        },
      ),
    );
  } finally {
    client?.close();
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const judgeAll = async (crds: readonly string[]): Promise<void> =>
  verdicts(crds, async (verdict) => {
    const wrong: string[] = [];
    for (const one of CASES) {
      const text = await verdict(one);
      const name = `${one.resource.kind}: ${one.what}`;
      if (one.refused === undefined ? text !== '' : !one.refused.test(text))
        wrong.push(`${name}: ${text || 'accepted'}`);
    }
    assert.deepEqual(wrong, []);
  });

describe('definitions', () => {
  test('in deploy/crds accept and refuse as the field’s', async () => {
    await judgeAll(readdirSync(OURS).map((name) => readFileSync(join(OURS, name), 'utf8')));
  });

  test('of the field: the same verdicts', {
    skip: THEIRS === undefined && 'PEER_CRDS names no file',
  }, async () => {
    await judgeAll([readFileSync(THEIRS ?? '', 'utf8')]);
  });
});
