// The certificate authority as its clients and other replicas meet it: real gRPC, real files, real reflectors; only the API
// server is a fake (control-plane.md §5).

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { readOptions } from '#control/config.ts';
import { type ControlPlane, createControlPlane } from '#control/control-plane.ts';
import { createCaClient } from '#grpc/ca-client.ts';
import { createGrpcChannel } from '#grpc/client.ts';
import { CONFIG_MAPS, NAMESPACES, PODS, SECRETS } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';
import { createAuthority } from '#tls/issue.ts';
import { newCsr, newSigningCertificate, rsaKeys, type SigningCertificate } from '../lib/authorities.ts';
import { crlPem, newCrl } from '../lib/crls.ts';
import { untilTelling } from '../lib/until.ts';
import { FakeApi } from './control-fake-api.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
const DB = 'spiffe://cluster.local/ns/shop/sa/db' as SpiffeId;
const SYSTEM = 'istio-system';

let api: FakeApi;
let scope: Scope;
let controls: ControlPlane[];
let lines: string[];
let dir: string;

function seed(): void {
  for (const name of [SYSTEM, 'shop'])
    api.put(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  for (const [name, namespace, account, node] of [
    ['ztunnel-n1', SYSTEM, 'ztunnel', 'n1'],
    ['web', 'shop', 'web', 'n1'],
    ['db', 'shop', 'db', 'n2'],
  ] as const)
    api.put(PODS, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, uid: `uid-${name}` },
      spec: { containers: [{ name: 'c', image: 'local/x' }], nodeName: node, serviceAccountName: account },
      status: { phase: 'Running' },
    });
  const ztunnel = { namespace: SYSTEM, serviceAccount: 'ztunnel' };
  api.tokens.set('good', { ...ztunnel, pod: { name: 'ztunnel-n1', uid: 'uid-ztunnel-n1' } });
  api.tokens.set('renewed', { ...ztunnel, pod: { name: 'ztunnel-n1', uid: 'uid-ztunnel-n1' } });
  api.tokens.set('unbound', ztunnel);
  api.tokens.set('earlier-pod', { ...ztunnel, pod: { name: 'ztunnel-n1', uid: 'another' } });
  api.tokens.set('deleted-pod', { ...ztunnel, pod: { name: 'ztunnel-n9', uid: 'u' } });
  api.tokens.set('other-audience', { ...ztunnel, audiences: ['api'] });
  api.tokens.set('workload', {
    namespace: 'shop',
    serviceAccount: 'web',
    pod: { name: 'web', uid: 'uid-web' },
  });
}

async function start(env: Readonly<Record<string, string>> = {}): Promise<ControlPlane> {
  const options = readOptions({ ROOT_CA_DIR: dir, ...env });
  const log = createLogger('control', { format: 'json', level: 'info', write: (line) => lines.push(line) });
  const control = await createControlPlane(
    { client: api.client, startInformer, log },
    { ...options, listen: { host: '127.0.0.1', xdsPort: 0, httpPort: 0, monitoringPort: 0 } },
  );
  controls.push(control);
  await control.ready;
  return control;
}

beforeEach(() => {
  api = new FakeApi();
  scope = new Scope('test');
  controls = [];
  lines = [];
  dir = mkdtempSync(join(tmpdir(), 'culvert-cacerts-'));
  seed();
});

afterEach(async () => {
  scope.close();
  for (const control of controls) await control.close();
  rmSync(dir, { recursive: true, force: true });
});

interface Ask {
  readonly token?: string | undefined;
  readonly identity?: SpiffeId;
  readonly csrPem?: string;
  readonly ttlSeconds?: number;
}

/** As a node proxy asks, knowing the root from its namespace's ConfigMap. */
async function sign(control: ControlPlane, ask: Ask = {}): Promise<readonly string[]> {
  const { token = 'good', identity = WEB, ttlSeconds = 3600 } = ask;
  const rootPem = await until('the root', () => published('istio-ca-root-cert', 'root-cert.pem'));
  const channel = createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port: control.ports.xds,
      serverName: 'istiod.istio-system.svc',
      rootPem: () => rootPem,
      metadata: { clusterid: 'Kubernetes' },
      ...('token' in ask && ask.token === undefined ? {} : { token: () => token }),
    },
  );
  const csrPem = ask.csrPem ?? (await requestFor(identity)).csrPem;
  return createCaClient(channel).sign(identity, csrPem, ttlSeconds);
}

const published = (name: string, key: string, namespace = 'shop'): string | undefined =>
  api.get(CONFIG_MAPS, name, namespace)?.data?.[key];
const roots = (): string | undefined => published('istio-ca-root-cert', 'root-cert.pem');

const until = untilTelling(() => lines.join(''));

const logged = (...texts: string[]): boolean =>
  lines.some((line) => texts.every((text) => line.includes(text)));

/** As the kubelet does it: a whole new folder under a link, so that nobody sees a half of it. */
let writes = 0;
function plugIn(files: Readonly<Record<string, string>>): void {
  const made = join(dir, `..${++writes}`);
  mkdirSync(made);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(made, name), text);
  for (const name of Object.keys(files)) renameSync(join(made, name), join(dir, name));
}

const material = (signing: SigningCertificate, chain: string, root: string) => ({
  'ca-cert.pem': signing.certPem,
  'ca-key.pem': signing.keyPem,
  'cert-chain.pem': chain,
  'root-cert.pem': root,
});

describe('refusals, as gRPC tells them', () => {
  const cases: { says: string; ask: () => Promise<Ask>; code: number; reason: string }[] = [
    { says: 'no token', ask: async () => ({ token: undefined }), code: 16, reason: 'no-token' },
    { says: 'garbage', ask: async () => ({ token: 'garbage' }), code: 16, reason: 'invalid-token' },
    {
      says: 'wrong audience',
      ask: async () => ({ token: 'other-audience' }),
      code: 16,
      reason: 'invalid-token',
    },
    { says: 'unbound token', ask: async () => ({ token: 'unbound' }), code: 16, reason: 'token-not-bound' },
    {
      says: 'another account',
      ask: async () => ({ token: 'workload', identity: DB }),
      code: 16,
      reason: 'caller-not-trusted',
    },
    { says: 'deleted-pod', ask: async () => ({ token: 'deleted-pod' }), code: 16, reason: 'caller-pod-gone' },
    {
      says: 'new pod under an old name',
      ask: async () => ({ token: 'earlier-pod' }),
      code: 16,
      reason: 'caller-pod-replaced',
    },
    {
      says: "a foreign node's identity",
      ask: async () => ({ identity: DB }),
      code: 16,
      reason: 'not-on-node',
    },
    {
      says: 'a CSR that names another',
      ask: async () => ({ csrPem: (await requestFor(DB)).csrPem }),
      code: 3,
      reason: 'csr-name-mismatch',
    },
    {
      says: 'a weak key',
      ask: async () => ({ csrPem: await newCsr({ keys: await rsaKeys(1024) }) }),
      code: 3,
      reason: 'weak-key',
    },
    { says: 'a CSR that is none', ask: async () => ({ csrPem: 'nonsense' }), code: 3, reason: 'bad-csr' },
    {
      says: 'a CSR of a megabyte',
      ask: async () => ({ csrPem: 'x'.repeat(1e6) }),
      code: 3,
      reason: 'csr-too-large',
    },
    {
      says: 'too long a life',
      ask: async () => ({ ttlSeconds: 7_776_001 }),
      code: 3,
      reason: 'ttl-too-long',
    },
  ];

  test('each with its code, its reason in one audit line, and counted', async () => {
    const control = await start();
    await sign(control);
    for (const { says, ask, code, reason } of cases) {
      const before = lines.length;
      await assert.rejects(sign(control, await ask()), (error: unknown) => {
        assert.ok(error instanceof MeshError, says);
        assert.equal(error.details.status ?? error.details.code, code, `${says}: ${error.message}`);
        return true;
      });
      const audit = lines.slice(before).filter((line) => line.includes('"scope":"ca"'));
      assert.equal(audit.length, 1, says);
      assert.partialDeepStrictEqual(JSON.parse(audit[0] ?? ''), { message: 'certificate refused', reason });
    }
    const response = await fetch(`http://127.0.0.1:${control.ports.monitoring}/metrics`);
    const metrics = await response.text();
    for (const line of [
      `citadel_server_csr_count_total ${cases.length + 1}`,
      'citadel_server_success_cert_issuance_count_total 1',
      'citadel_server_authentication_failure_count_total 8',
      'citadel_server_csr_sign_err_count_total{error="CSR_ERROR"} 4',
      'citadel_server_csr_sign_err_count_total{error="TTL_ERROR"} 1',
      'citadel_server_refused_count_total{reason="not-on-node"} 1',
      'culvert_ca_answer_seconds_count{result="signed"} 1',
      `culvert_ca_answer_seconds_count{result="refused"} ${cases.length}`,
    ])
      assert.ok(metrics.split('\n').includes(line), `${line} in\n${metrics}`);
    const end = new X509Certificate(roots() ?? '').validToDate.getTime() / 1000;
    assert.ok(metrics.includes(`citadel_server_root_cert_expiry_timestamp ${end}\n`));
  });

  test('a token that was rotated is good, its predecessor no longer', async () => {
    const control = await start();
    await sign(control);
    api.tokens.delete('good');
    await assert.rejects(sign(control), /invalid bearer token/);
    assert.equal((await sign(control, { token: 'renewed' })).length, 2);
  });

  test('while the API server is away: unavailable, and signed again afterwards', async () => {
    const control = await start();
    await sign(control);
    api.unreachable = true;
    await assert.rejects(sign(control), /could not be reviewed/);
    api.unreachable = false;
    await sign(control);
  });
});

describe('a plugged-in authority', () => {
  let root: SigningCertificate;
  let signing: SigningCertificate;
  beforeEach(async () => {
    root = await newSigningCertificate({ name: 'company root' });
    signing = await newSigningCertificate({ name: 'mesh', issuer: root });
  });

  test('signs in place of a self-signed root; its root goes to every namespace; the control plane serves below it', async () => {
    plugIn(material(signing, signing.certPem + root.certPem, root.certPem));
    const control = await start();
    const chain = await sign(control);
    assert.deepEqual(chain.slice(1), [signing.certPem, root.certPem]);
    assert.equal(roots(), root.certPem);
    assert.equal(api.get(SECRETS, 'istio-ca-secret', SYSTEM), undefined);
    const metrics = await (await fetch(`http://127.0.0.1:${control.ports.monitoring}/metrics`)).text();
    const end = new X509Certificate(signing.certPem).validToDate.getTime() / 1000;
    assert.ok(metrics.includes(`citadel_server_cert_chain_expiry_timestamp ${end}\n`));
  });

  test('that cannot be used stops the program, which names the file', async () => {
    plugIn({ ...material(signing, '', root.certPem), 'ca-key.pem': root.keyPem });
    await assert.rejects(start(), { code: 'CERTIFICATE_INVALID', message: /ca-key\.pem is not the key/ });
    assert.equal(api.get(SECRETS, 'istio-ca-secret', SYSTEM), undefined);
  });

  test('a new intermediate is taken over while it runs, also for the serving certificate', async () => {
    plugIn(material(signing, signing.certPem, root.certPem));
    const control = await start();
    const next = await newSigningCertificate({ name: 'mesh 2', issuer: root });
    plugIn(material(next, next.certPem, root.certPem));
    await until('the new one', () => logged('the authority signs with', 'O=mesh 2'));
    assert.equal((await sign(control))[1], next.certPem);
  });

  test('a broken replacement is refused with the reason, and the old one goes on', async () => {
    plugIn(material(signing, signing.certPem, root.certPem));
    const control = await start();
    plugIn({ 'ca-key.pem': root.keyPem });
    await until('the complaint', () => logged('what it signs with stays', 'ca-key.pem is not the key'));
    assert.equal((await sign(control))[1], signing.certPem);
    plugIn({ 'ca-key.pem': signing.keyPem });
  });

  test('a root is replaced in three steps while it runs; at once it is refused', async () => {
    const other = await newSigningCertificate({ name: 'next root' });
    const below = await newSigningCertificate({ name: 'next mesh', issuer: other });
    plugIn(material(signing, signing.certPem, root.certPem));
    const control = await start();
    plugIn(material(below, below.certPem, other.certPem));
    await until('the refusal', () => logged('every connection would break'));
    assert.equal((await sign(control)).at(-1), root.certPem);
    assert.equal(roots(), root.certPem);

    const both = root.certPem + other.certPem;
    plugIn(material(signing, signing.certPem, both));
    await until('both roots everywhere', () => roots() === both);
    assert.deepEqual((await sign(control)).slice(1), [signing.certPem, both]);
    plugIn(material(below, below.certPem, both));
    await until('the next one to sign', () => logged('the authority signs with', 'O=next mesh'));
    assert.deepEqual((await sign(control)).slice(1), [below.certPem, both]);
    plugIn(material(below, below.certPem, other.certPem));
    await until('the old root to go', () => roots() === other.certPem);
    assert.deepEqual((await sign(control)).slice(1), [below.certPem, other.certPem]);
  });

  test('takes over from a self-signed root that it lists, without a restart', async () => {
    const control = await start();
    const own = (await until('the root', roots)) as string;
    plugIn(material(signing, signing.certPem, root.certPem + own));
    await until('the plugged-in one', () => logged('the authority signs with', 'plugged-in'));
    assert.equal((await sign(control))[1], signing.certPem);
  });

  test('its revocation lists go to every namespace, follow the file, and stay when it goes', async () => {
    const authority = await createAuthority({ ...root, validDays: 1 });
    const lists = crlPem(await newCrl(authority, { revoked: ['01'] }));
    plugIn({ ...material(signing, signing.certPem, root.certPem), 'ca-crl.pem': lists });
    await start();
    const crl = () => published('istio-ca-crl', 'ca-crl.pem');
    await until('the lists', () => crl() === lists);
    assert.equal(published('istio-ca-crl', 'ca-crl.pem', SYSTEM), lists);
    const later = crlPem(await newCrl(authority, { revoked: ['01', '02'] }));
    plugIn({ 'ca-crl.pem': later });
    await until('the later lists', () => crl() === later);
    rmSync(join(dir, 'ca-crl.pem'));
    await until('a warning', () => logged('those published stay in force'));
    assert.equal(crl(), later);
  });

  test('without lists there is no ConfigMap of them', async () => {
    plugIn(material(signing, signing.certPem, root.certPem));
    await start();
    await until('the root', roots);
    assert.equal(published('istio-ca-crl', 'ca-crl.pem'), undefined);
  });
});

describe('several replicas', () => {
  test('start at once and sign with one root', async () => {
    const [one, two, three] = await Promise.all([start(), start(), start()]);
    const answers = await Promise.all([one, two, three].map((control) => sign(control as ControlPlane)));
    assert.equal(new Set(answers.map((chain) => chain.at(-1))).size, 1);
    assert.equal(answers[0]?.at(-1), roots());
  });

  test('follow the Secret at once: a rotation of the self-signed root reaches all of them', async () => {
    const replicas = await Promise.all([start(), start()]);
    const own = (await until('the root', roots)) as string;
    const next = await newSigningCertificate({ name: 'cluster.local' });
    const step = (data: Readonly<Record<string, string>>): void => {
      const secret = api.get(SECRETS, 'istio-ca-secret', SYSTEM)!;
      const encoded = Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')]);
      api.put(SECRETS, { ...secret, data: { ...secret.data, ...Object.fromEntries(encoded) } });
    };
    const signers = async (): Promise<string[]> =>
      Promise.all(
        replicas.map(async (control) => {
          const [leaf = '', roots = ''] = await sign(control);
          const issuer = [own, next.certPem].findIndex((pem) =>
            new X509Certificate(leaf).verify(new X509Certificate(pem).publicKey),
          );
          return `${issuer} of ${roots.split('BEGIN').length - 1}`;
        }),
      );
    const settled = async (wanted: string): Promise<void> => {
      for (let tries = 0; tries < 400; tries++) {
        if ((await signers()).every((answer) => answer === wanted)) return;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      assert.deepEqual(await signers(), [wanted, wanted]);
    };
    await settled('0 of 1');
    step({ 'root-cert.pem': own + next.certPem });
    await settled('0 of 2');
    assert.equal(roots(), own + next.certPem);
    step({ 'ca-cert.pem': next.certPem, 'ca-key.pem': next.keyPem });
    await settled('1 of 2');
    step({ 'root-cert.pem': next.certPem });
    await settled('1 of 1');
    assert.equal(roots(), next.certPem);
  });
});
