// What is said of an authority, the rehearsal of its rotation with real handshakes, and the steps of a real one.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { Secret } from '#k8s/objects.ts';
import { PLUGGED_IN_NAMES } from '#tls/authority-files.ts';
import { type AuthorityMaterial, readAuthorityMaterial } from '#tls/authority-material.ts';
import { createAuthority } from '#tls/issue.ts';
import { certificateBlocks } from '#tls/pem.ts';
import { newSigningCertificate, type SigningCertificate } from '../../../test/lib/authorities.ts';
import { type ClusterAuthority, readAuthority, secretTexts } from './authority.ts';
import { holdingsOf, type ProxyHoldings } from './holdings.ts';
import { rehearse } from './rehearsal.ts';
import { type ReportInput, reportOn } from './report.ts';
import { checkBlockers, planRotation, takeStep } from './rotation.ts';
import { rehearsalText, reportText } from './tables.ts';
import { compareTrust } from './trust.ts';

const DAY_MS = 86_400_000;
const now = Date.now();
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';

let old: SigningCertificate;
let next: SigningCertificate;
let mesh: SigningCertificate;
before(async () => {
  // The same name: roots are replaced under it.
  old = await newSigningCertificate({ name: 'cluster.local' });
  next = await newSigningCertificate({ name: 'cluster.local' });
  mesh = await newSigningCertificate({ name: 'mesh', issuer: next });
});

const materialOf = (signing: SigningCertificate, rootsPem: string, chainPem = ''): AuthorityMaterial =>
  readAuthorityMaterial({ ...signing, chainPem, rootsPem, names: PLUGGED_IN_NAMES }, now);

/** As a ztunnel's dump shows it. */
async function held(
  signing: SigningCertificate,
  rootsPem: string,
  life: { readonly backdateMs?: number; readonly validForMs?: number } = {},
  proxy = 'ztunnel-a',
): Promise<ProxyHoldings> {
  const authority = await createAuthority({ ...signing, validDays: 1 });
  const { certPem } = await authority.issue({ uris: [WEB], validForMs: DAY_MS, ...life });
  const dump = (pem: string) => ({
    pem: Buffer.from(pem).toString('base64'),
    serialNumber: '1',
    validFrom: '',
    expirationTime: '',
  });
  const identity = { identity: WEB, state: 'Available', certChain: [dump(certPem)] };
  return holdingsOf(proxy, 'n1', [{ ...identity, rootCerts: certificateBlocks(rootsPem).map(dump) }]);
}

describe('the report', () => {
  const report = (more: Partial<ReportInput> & Pick<ReportInput, 'material'>) =>
    reportOn({ source: 'self-signed', trust: [], holdings: [], ...more }, now);
  const says = (input: Parameters<typeof report>[0]): string =>
    report(input)
      .findings.map(({ level, message }) => `${level}: ${message}`)
      .join('\n');

  test('a healthy one: one certificate that signs and is trusted, nothing to do', async () => {
    const root = await newSigningCertificate({ name: 'cluster.local', notAfterMs: now + 29.5 * DAY_MS });
    const material = materialOf(root, root.certPem);
    const trust = [compareTrust('shop', root.certPem, material.roots)];
    const result = report({ material, trust, holdings: [await held(root, root.certPem)] });
    assert.deepEqual(result.findings, []);
    assert.equal(result.certificates.length, 1);
    assert.partialDeepStrictEqual(result.certificates[0], {
      role: 'signing',
      name: 'O=cluster.local',
      key: 'ECDSA P-256',
      daysLeft: 29,
      fingerprint: new X509Certificate(root.certPem).fingerprint256,
    });
    const text = reportText(result);
    assert.match(text, /^signing +O=cluster\.local +ECDSA P-256 /m);
    assert.match(text, /1 of 1 namespaces have these roots/);
    assert.match(text, /^ztunnel-a +n1 +1 +O=cluster\.local /m);
    assert.match(text, /Nothing has to be done/);
  });

  test('an intermediate below a root, and a second root', () => {
    const material = materialOf(mesh, next.certPem + old.certPem, mesh.certPem);
    const roles = report({ source: 'plugged-in', material }).certificates.map(({ role }) => role);
    assert.deepEqual(roles, ['signing', 'root', 'root']);
  });

  test('what ends soon: less than a fifth of its life is left', async () => {
    const times = { notBeforeMs: now - 81 * DAY_MS, notAfterMs: now + 19.5 * DAY_MS };
    const ending = await newSigningCertificate({ name: 'ending', ...times });
    const material = materialOf(ending, ending.certPem);
    assert.match(says({ material }), /^warning: O=ending \([0-9A-F:]{11}\) ends in 19 days/);
  });

  test('namespaces that are behind: a root that they lack is an error, one that they still have is not', () => {
    const material = materialOf(old, old.certPem + next.certPem);
    const trust = [
      compareTrust('behind', old.certPem, material.roots),
      compareTrust('empty', undefined, material.roots),
      compareTrust('fine', next.certPem + old.certPem, material.roots),
      compareTrust('late', old.certPem + next.certPem + mesh.certPem, material.roots),
    ];
    assert.deepEqual(
      trust.map(({ state }) => state),
      ['behind', 'missing', 'current', 'behind'],
    );
    const text = says({ material, trust });
    assert.match(text, /^error: the roots of namespace behind are behind: it lacks O=cluster\.local/m);
    assert.match(text, /^error: namespace empty has no ConfigMap/m);
    assert.match(text, /^warning: the roots of namespace late are behind: it still has O=mesh/m);
    assert.doesNotMatch(text, /fine/);
  });

  test('proxies: not renewed, expired, of an authority that nobody trusts, without the new root, not to be asked', async () => {
    const material = materialOf(old, old.certPem + next.certPem);
    const both = old.certPem + next.certPem;
    const hour = 3_600_000;
    const stranger = await newSigningCertificate({ name: 'stranger' });
    const holdings = [
      await held(old, both, { backdateMs: 2 * hour, validForMs: hour }, 'stuck'),
      await held(old, both, { backdateMs: 2 * hour, validForMs: -hour }, 'expired'),
      await held(stranger, both, {}, 'foreign'),
      await held(old, old.certPem, {}, 'unaware'),
      holdingsOf('lost', 'n1', [{ identity: WEB, state: 'Unavailable: refused' }]),
      { proxy: 'silent', node: 'n1', certificates: [], without: [], problem: 'no answer' },
    ];
    const text = says({ material, holdings });
    assert.match(text, /^warning: stuck has not renewed the certificate of spiffe:.*web/m);
    assert.match(text, /^error: expired: the certificate of spiffe:.*web expired at 20/m);
    assert.match(text, /^error: foreign: the certificate of spiffe:.*leads to no published root/m);
    assert.match(
      text,
      /^warning: unaware: 1 of 1 certificates came before O=cluster\.local .*renewed by 20/m,
    );
    assert.match(text, /^error: lost has no certificate for spiffe:.*web: Unavailable: refused/m);
    assert.match(text, /^warning: silent could not be asked: no answer/m);
    assert.equal(text.split('\n').length, 6);
  });
});

describe('the rehearsal', () => {
  const trustOf = (rootsPem: string, material: AuthorityMaterial, name = 'shop') => [
    compareTrust(name, rootsPem, material.roots),
  ];

  test('three steps break nothing; taken too early, they say what breaks', async () => {
    const today = materialOf(old, old.certPem);
    const result = await rehearse({
      today,
      next: materialOf(next, next.certPem),
      trust: trustOf(old.certPem, today),
      holdings: [await held(old, old.certPem)],
      atOnce: false,
    });
    assert.equal(result.isSafe, true);
    assert.deepEqual(
      result.steps.map(({ broken, tooEarly }) => [broken.length, tooEarly.length > 0]),
      [
        [0, false],
        [0, false],
        [0, true],
        [0, true],
      ],
    );
    // In the second step the old proxies do not know the new root; both sides of a handshake say so.
    const early = result.steps[2]?.tooEarly ?? [];
    assert.deepEqual(
      early.map(({ kind, who }) => `${kind}: ${who}`),
      [
        'between: proxies as they are → proxies renewed in step 2',
        'between: proxies renewed in step 2 → proxies as they are',
        'control: proxies with the roots of now → control plane',
      ],
    );
    assert.match(early[0]?.reason ?? '', /the client refuses the server: /);
    assert.match(early[1]?.reason ?? '', /the server refuses the client: /);
    const text = rehearsalText(result);
    assert.match(
      text,
      /Step 2 must wait until all proxies have renewed after step 1 \(of the certificates held now/,
    );
    assert.match(text, /With these waits no handshake fails/);
  });

  test('everything at once breaks every connection between old and new', async () => {
    const today = materialOf(old, old.certPem);
    const result = await rehearse({
      today,
      next: materialOf(next, next.certPem),
      trust: [],
      holdings: [],
      atOnce: true,
    });
    assert.equal(result.isSafe, false);
    assert.equal(result.steps.length, 2);
    assert.equal(result.steps[1]?.broken.length, 3);
    assert.match(rehearsalText(result), /As planned, connections break/);
  });

  test('a planned intermediate below another root, in three steps', async () => {
    const today = materialOf(old, old.certPem);
    const planned = materialOf(mesh, next.certPem, mesh.certPem);
    const inputs = { today, next: planned, trust: [], holdings: [] };
    assert.equal((await rehearse({ ...inputs, atOnce: false })).isSafe, true);
    assert.equal((await rehearse({ ...inputs, atOnce: true })).isSafe, false);
    // A next intermediate of the same root needs no steps at all.
    const sibling = await newSigningCertificate({ name: 'sibling', issuer: next });
    const below = materialOf(sibling, next.certPem, sibling.certPem);
    assert.equal((await rehearse({ ...inputs, today: planned, next: below, atOnce: true })).isSafe, true);
  });

  test('a namespace that is behind, and proxies of two generations, are part of the copy', async () => {
    const today = materialOf(old, old.certPem + next.certPem);
    const result = await rehearse({
      today,
      next: materialOf(next, old.certPem + next.certPem),
      trust: trustOf(old.certPem, today, 'lag'),
      holdings: [
        await held(old, old.certPem + next.certPem, {}, 'ztunnel-a'),
        await held(old, old.certPem, {}, 'ztunnel-b'),
        await held(next, old.certPem, {}, 'ztunnel-c'),
      ],
      atOnce: true,
    });
    assert.deepEqual(
      result.steps[1]?.broken.map(({ who }) => who),
      [
        'ztunnel-b as now → proxies renewed in step 1',
        'proxies renewed in step 1 → ztunnel-b as now',
        'proxies in lag, whose roots are behind → control plane',
      ],
    );
    assert.deepEqual(result.notCopied, [`ztunnel-c: ${WEB}, signed by O=cluster.local`]);
  });
});

describe('a rotation', () => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const secretOf = (data: Readonly<Record<string, string>>, name = 'istio-ca-secret'): Secret => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: 'istio-system', resourceVersion: '7' },
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, base64(text)])),
  });
  const notFound = new MeshError('API_STATUS', 'not found', { details: { status: 404, reason: 'NotFound' } });

  /** A cluster with these Secrets; updates stay. */
  function cluster(...secrets: Secret[]) {
    const held = new Map(secrets.map((secret) => [secret.metadata.name, secret]));
    const client = {
      get: async (_kind: unknown, name: string) => held.get(name) ?? Promise.reject(notFound),
      update: async (_kind: unknown, secret: Secret) => {
        held.set(secret.metadata.name, secret);
        return secret;
      },
    } as unknown as Parameters<typeof readAuthority>[0];
    return { client, read: (): Promise<ClusterAuthority> => readAuthority(client, now) };
  }

  test('adds, switches, removes; each step only when nothing breaks by it', async () => {
    const { client, read } = cluster(
      secretOf({
        'ca-cert.pem': old.certPem,
        'ca-key.pem': old.keyPem,
        'root-cert.pem': old.certPem,
        'key.pem': '',
      }),
    );
    const step = async (rootsPem: string, holdings: ProxyHoldings[]) => {
      const authority = await read();
      const trust = [compareTrust('shop', rootsPem, authority.material.roots)];
      return { authority, plan: planRotation({ authority, trust, holdings }) };
    };
    const first = await step(old.certPem, [await held(old, old.certPem)]);
    assert.equal(first.plan.step, 'add');
    checkBlockers(first.plan);
    await takeStep(client, first.plan, first.authority);
    const { material, secret } = await read();
    const made = {
      certPem: String(material.roots[1]),
      keyPem: secretTexts(secret).get('next-ca-key.pem') ?? '',
    };
    assert.equal(String(material.certificate), old.certPem, 'the old one signs on');
    assert.equal(material.rootsPem, old.certPem + made.certPem);
    assert.equal(new X509Certificate(made.certPem).subject, 'O=cluster.local');
    assert.equal(secret.metadata.resourceVersion, '7', 'what others changed meanwhile is refused');
    const both = old.certPem + made.certPem;

    const early = await step(old.certPem, [await held(old, old.certPem)]);
    assert.equal(early.plan.step, 'switch');
    assert.throws(() => checkBlockers(early.plan), {
      code: 'REFUSED',
      message:
        /namespace shop does not have the new root yet; ztunnel-a: 1 certificates do not trust the new root yet; the last is renewed by 20.*rollout restart/,
    });
    const second = await step(both, [await held(old, both)]);
    checkBlockers(second.plan);
    await takeStep(client, second.plan, second.authority);
    const switched = await read();
    assert.equal(String(switched.material.certificate), made.certPem);
    assert.ok(switched.material.certificate.publicKey.equals(createPublicKey(made.keyPem)));
    assert.equal(switched.material.rootsPem, both);
    assert.deepEqual(
      [...secretTexts(switched.secret).keys()].filter((key) => key.startsWith('next')),
      [],
    );

    const hasty = await step(both, [await held(old, both)]);
    assert.equal(hasty.plan.step, 'remove');
    assert.throws(() => checkBlockers(hasty.plan), /1 certificates were not signed by the new root/);
    const silent = { proxy: 'z', node: 'n', certificates: [], without: [], problem: 'no answer' };
    assert.throws(
      () => checkBlockers(planRotation({ ...hasty, trust: [], holdings: [silent] })),
      /z could not be asked/,
    );
    const third = await step(both, [await held(made, both)]);
    checkBlockers(third.plan);
    await takeStep(client, third.plan, third.authority);
    assert.equal((await read()).material.rootsPem, made.certPem);
    assert.equal((await step(made.certPem, [])).plan.step, 'add', 'and it can begin again');
  });

  test('of a plugged-in authority is its owner’s business', async () => {
    const files = {
      'ca-cert.pem': mesh.certPem,
      'ca-key.pem': mesh.keyPem,
      'cert-chain.pem': mesh.certPem,
      'root-cert.pem': next.certPem,
    };
    const { read } = cluster(secretOf(files, 'cacerts'), secretOf({}));
    const authority = await read();
    assert.equal(authority.source, 'plugged-in');
    assert.throws(() => planRotation({ authority, trust: [], holdings: [] }), /culvert ca rehearse --with/);
  });

  test('without any authority, or with a damaged one, the message names the Secret', async () => {
    await assert.rejects(cluster().read(), /neither Secret cacerts nor istio-ca-secret/);
    await assert.rejects(cluster(secretOf({ 'ca-cert.pem': 'x' })).read(), {
      code: 'CERTIFICATE_INVALID',
      message: /Secret istio-system\/istio-ca-secret cannot be used: ca-cert\.pem holds no certificate/,
    });
  });
});
