// Every way to be refused, and what is signed otherwise (control-plane.md §5.1–5.3, trap 7 of §14).

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { type Clock, systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createLogger } from '#telemetry/log.ts';
import { PLUGGED_IN_NAMES } from '#tls/authority-files.ts';
import { readAuthorityMaterial } from '#tls/authority-material.ts';
import { requestFor } from '#tls/csr.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { newCsr, newSigningCertificate, rsaKeys } from '../../../test/lib/authorities.ts';
import { type CertificateRequest, createCertificateService } from './certificate-service.ts';
import type { PodFacts, PodView } from './pod-view.ts';
import { type Signer, signerOf } from './signer.ts';
import { createTokenReviewer } from './token-review.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
const DAY_S = 86_400;

interface Answer {
  authenticated: boolean;
  error?: string;
  audiences?: string[];
  username?: string;
  podName?: string;
  podUid?: string;
}

const ZTUNNEL: Answer = {
  authenticated: true,
  audiences: ['istio-ca'],
  username: 'system:serviceaccount:istio-system:ztunnel',
  podName: 'ztunnel-n1',
  podUid: 'u1',
};

const POD: PodFacts = { uid: 'u1', serviceAccount: 'ztunnel', node: 'n1' };

function view(own: PodFacts | undefined, onNode: readonly string[]): PodView {
  return {
    pod: (namespace, name) => (namespace === 'istio-system' && name === 'ztunnel-n1' ? own : undefined),
    runsOn: (node, namespace, account) => onNode.includes(`${node}/${namespace}/${account}`),
  };
}

let root: Signer;
let csrPem: string;
before(async () => {
  root = await selfSigned(await createAuthority({ organization: 'cluster.local', validDays: 30 }));
  csrPem = (await requestFor(WEB)).csrPem;
});

function selfSigned({ certPem, keyPem }: Authority, clock: Clock = systemClock): Promise<Signer> {
  const files = { certPem, keyPem, chainPem: '', rootsPem: certPem, names: PLUGGED_IN_NAMES };
  return signerOf('self-signed', readAuthorityMaterial(files, clock.now()), clock);
}

interface Setting {
  answer?: Answer | Error | 'never';
  pods?: PodView;
  fresh?: PodView | Error;
  signer?: Signer;
  reviewLimitMs?: number;
}

function service({
  answer = ZTUNNEL,
  pods = view(POD, ['n1/shop/web']),
  fresh = pods,
  ...setting
}: Setting = {}) {
  const lines: string[] = [];
  const audiences: unknown[] = [];
  const sign = createCertificateService(
    {
      signer: () => setting.signer ?? root,
      review: createTokenReviewer(
        {
          client: {
            request: async <T>(_method: string, _path: string, body: unknown): Promise<T> => {
              audiences.push((body as { spec: { audiences: unknown } }).spec.audiences);
              if (answer instanceof Error) throw answer;
              if (answer === 'never') return new Promise<never>(() => {});
              const { authenticated, error, username, podName, podUid } = answer;
              const extra = {
                ...(podName === undefined ? {} : { 'authentication.kubernetes.io/pod-name': [podName] }),
                ...(podUid === undefined ? {} : { 'authentication.kubernetes.io/pod-uid': [podUid] }),
              };
              const user = { username, groups: ['system:serviceaccounts'], extra };
              return { status: { authenticated, error, audiences: answer.audiences, user } } as T;
            },
          },
        },
        { audiences: ['istio-ca'], limitMs: setting.reviewLimitMs ?? 60_000 },
      ),
      pods,
      freshPods: async () => {
        if (fresh instanceof Error) throw fresh;
        return fresh;
      },
      clock: systemClock,
      log: createLogger('t', { format: 'json', level: 'info', write: (line) => lines.push(line) }),
    },
    {
      trustDomain: 'cluster.local',
      clusterId: 'Kubernetes',
      trustedAccounts: new Set(['istio-system/ztunnel']),
      defaultTtlSeconds: DAY_S,
      maxTtlSeconds: 90 * DAY_S,
    },
  );
  const request = (fields: Partial<CertificateRequest> = {}): CertificateRequest => ({
    token: 't',
    clusterId: 'Kubernetes',
    csrPem,
    ttlSeconds: DAY_S,
    impersonated: WEB,
    ...fields,
  });
  return { lines, audiences, call: (fields?: Partial<CertificateRequest>) => sign(request(fields)) };
}

const refusals: {
  says: string;
  setting?: Setting;
  request?: Partial<CertificateRequest>;
  status: string;
  reason: string;
}[] = [
  { says: 'no token', request: { token: undefined }, status: 'UNAUTHENTICATED', reason: 'no-token' },
  {
    says: 'garbage',
    setting: { answer: { authenticated: false } },
    status: 'UNAUTHENTICATED',
    reason: 'invalid-token',
  },
  {
    says: 'an expired token, or one of a deleted pod: the API server says so',
    setting: { answer: { authenticated: false, error: 'service account token has expired' } },
    status: 'UNAUTHENTICATED',
    reason: 'invalid-token',
  },
  {
    says: 'another audience',
    setting: { answer: { ...ZTUNNEL, audiences: ['api'] } },
    status: 'UNAUTHENTICATED',
    reason: 'wrong-audience',
  },
  {
    says: 'a server that knows no audiences has checked none',
    setting: { answer: { authenticated: true, username: 'system:serviceaccount:istio-system:ztunnel' } },
    status: 'UNAUTHENTICATED',
    reason: 'wrong-audience',
  },
  {
    says: 'a person',
    setting: { answer: { ...ZTUNNEL, username: 'alice' } },
    status: 'UNAUTHENTICATED',
    reason: 'not-a-service-account',
  },
  {
    says: 'the API server away',
    setting: { answer: new MeshError('API_UNREACHABLE', 'nobody answers') },
    status: 'UNAVAILABLE',
    reason: 'review-failed',
  },
  {
    says: 'an API server that does not answer in time',
    setting: { answer: 'never', reviewLimitMs: 1 },
    status: 'UNAVAILABLE',
    reason: 'review-failed',
  },
  {
    says: 'another cluster',
    request: { clusterId: 'other' },
    status: 'UNAUTHENTICATED',
    reason: 'unknown-cluster',
  },
  {
    says: 'a token that is bound to no pod',
    setting: {
      answer: {
        authenticated: true,
        audiences: ['istio-ca'],
        username: 'system:serviceaccount:istio-system:ztunnel',
      },
    },
    status: 'UNAUTHENTICATED',
    reason: 'token-not-bound',
  },
  {
    says: 'an ordinary workload that asks for another name',
    setting: { answer: { ...ZTUNNEL, username: 'system:serviceaccount:shop:db' } },
    status: 'UNAUTHENTICATED',
    reason: 'caller-not-trusted',
  },
  {
    says: 'no identity',
    request: { impersonated: 'web' },
    status: 'UNAUTHENTICATED',
    reason: 'identity-malformed',
  },
  {
    says: 'an identity longer than any real one, which is not repeated in the log',
    request: { impersonated: `spiffe://cluster.local/ns/shop/sa/${'x'.repeat(3000)}` },
    status: 'UNAUTHENTICATED',
    reason: 'identity-malformed',
  },
  {
    says: 'another trust domain',
    request: { impersonated: 'spiffe://evil/ns/shop/sa/web' },
    status: 'UNAUTHENTICATED',
    reason: 'foreign-trust-domain',
  },
  {
    says: 'a deleted pod',
    setting: { pods: view(undefined, ['n1/shop/web']) },
    status: 'UNAUTHENTICATED',
    reason: 'caller-pod-gone',
  },
  {
    says: 'the token of an earlier pod',
    setting: { pods: view({ ...POD, uid: 'u2' }, ['n1/shop/web']) },
    status: 'UNAUTHENTICATED',
    reason: 'caller-pod-replaced',
  },
  {
    says: 'a pod of another account',
    setting: { pods: view({ ...POD, serviceAccount: 'other' }, ['n1/shop/web']) },
    status: 'UNAUTHENTICATED',
    reason: 'caller-account-mismatch',
  },
  {
    says: 'a pod on no node',
    setting: { pods: view({ ...POD, node: '' }, ['/shop/web']) },
    status: 'UNAUTHENTICATED',
    reason: 'caller-not-scheduled',
  },
  {
    says: 'an identity of another node',
    setting: { pods: view(POD, ['n2/shop/web']) },
    status: 'UNAUTHENTICATED',
    reason: 'not-on-node',
  },
  {
    says: 'an identity of another node, with the API server away',
    setting: { pods: view(POD, []), fresh: new MeshError('API_UNREACHABLE', 'nobody') },
    status: 'UNAUTHENTICATED',
    reason: 'not-on-node',
  },
  { says: 'a bad request', request: { csrPem: 'nonsense' }, status: 'INVALID_ARGUMENT', reason: 'bad-csr' },
  {
    says: 'a request that is larger than any real one',
    request: { csrPem: 'x'.repeat(16_385) },
    status: 'INVALID_ARGUMENT',
    reason: 'csr-too-large',
  },
  {
    says: 'too long a life',
    request: { ttlSeconds: 91 * DAY_S },
    status: 'INVALID_ARGUMENT',
    reason: 'ttl-too-long',
  },
];

describe('refused, with code, reason and one audit line', () => {
  for (const { says, setting, request, status, reason } of refusals)
    test(says, async () => {
      const { call, lines } = service(setting);
      await assert.rejects(call(request), (error: unknown) => {
        assert.ok(error instanceof MeshError && error.code === 'CA_REFUSED');
        assert.deepEqual(error.details, { status, reason });
        return true;
      });
      assert.equal(lines.length, 1 + Number(setting?.fresh instanceof Error));
      assert.partialDeepStrictEqual(JSON.parse(lines.at(-1) ?? ''), {
        message: 'certificate refused',
        reason,
        scope: 'ca',
      });
      assert.ok((lines.at(-1) ?? '').length < 2500);
    });

  test('a request that is signed by another key than its own', async () => {
    const { call } = service();
    const der = Buffer.from(csrPem.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64');
    // Inside the name in the request: the signature no longer fits, the structure does.
    der.write('sa/xyz', der.indexOf('sa/web'));
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    await assert.rejects(call({ csrPem: forged }), (error: MeshError) => {
      assert.deepEqual(error.details, { status: 'INVALID_ARGUMENT', reason: 'bad-csr-signature' });
      return true;
    });
  });

  const requests: { says: string; csr: () => Promise<string>; reason: string }[] = [
    {
      says: 'a weak key',
      csr: async () => newCsr({ keys: await rsaKeys(1024) }),
      reason: 'weak-key',
    },
    {
      says: 'a request that names another identity',
      csr: () => newCsr({ names: [{ type: 'url', value: 'spiffe://cluster.local/ns/shop/sa/db' }] }),
      reason: 'csr-name-mismatch',
    },
    {
      says: 'a request that names the right identity and a host',
      csr: () =>
        newCsr({
          names: [
            { type: 'url', value: WEB },
            { type: 'dns', value: 'istiod.istio-system.svc' },
          ],
        }),
      reason: 'csr-name-mismatch',
    },
  ];
  for (const { says, csr, reason } of requests)
    test(says, async () => {
      const { call, lines } = service();
      await assert.rejects(call({ csrPem: await csr() }), (error: MeshError) => {
        assert.deepEqual(error.details, { status: 'INVALID_ARGUMENT', reason });
        return true;
      });
      assert.equal(lines.length, 1);
      assert.partialDeepStrictEqual(JSON.parse(lines[0] ?? ''), { reason, identity: WEB });
    });

  test('an expired root', async () => {
    const clock = { now: () => Date.now() - 40 * DAY_S * 1000, monotonicMs: () => 0 };
    const old = await createAuthority({ organization: 'x', validDays: 30, clock });
    const { call } = service({ signer: await selfSigned(old, clock) });
    await assert.rejects(call(), (error: MeshError) => {
      assert.deepEqual(error.details, { status: 'INTERNAL', reason: 'signing-failed' });
      return true;
    });
  });
});

describe('signed', () => {
  test('whatever strong key, with or without a name', async () => {
    const { call } = service();
    for (const csrPem of [await newCsr({ keys: await rsaKeys(2048) }), await newCsr({})])
      assert.equal(leafOf(await call({ csrPem })).subjectAltName, `URI:${WEB}`);
  });

  test('a common name becomes the identity, whatever it said', async () => {
    const { call } = service();
    const leaf = leafOf(await call({ csrPem: await newCsr({ commonName: 'root' }) }));
    assert.equal(leaf.subject, `CN=${WEB}`);
  });

  test('below a plugged-in authority: leaf, then upwards, one certificate an element; roots last, unsplit', async () => {
    const top = await newSigningCertificate({ name: 'top' });
    const middle = await newSigningCertificate({ name: 'middle', issuer: top });
    // It ends before the one that it signs for.
    const nextEndMs = Math.floor(Date.now() / 1000) * 1000 + 3_600_000;
    const upper = await newSigningCertificate({ name: 'upper', issuer: middle, notAfterMs: nextEndMs });
    const signing = await newSigningCertificate({ name: 'signing', issuer: upper });
    const next = await newSigningCertificate({ name: 'next' });
    const material = readAuthorityMaterial(
      {
        ...signing,
        // As people have them: in no order, the root among them.
        chainPem: middle.certPem + top.certPem + signing.certPem + upper.certPem,
        rootsPem: top.certPem + next.certPem,
        names: PLUGGED_IN_NAMES,
      },
      Date.now(),
    );
    const { call } = service({ signer: await signerOf('plugged-in', material, systemClock) });
    const chain = await call();
    assert.deepEqual(chain.slice(1), [
      signing.certPem,
      upper.certPem,
      middle.certPem,
      top.certPem + next.certPem,
    ]);
    assert.ok(leafOf(chain).verify(new X509Certificate(signing.certPem).publicKey));
    // Of no use to anybody once an authority above it has ended.
    const end = leafOf(chain).validToDate.getTime();
    assert.ok(end <= nextEndMs && end > nextEndMs - 60_000, `${end} ${nextEndMs}`);
  });

  const leafOf = (chain: readonly string[]): X509Certificate => new X509Certificate(chain[0] ?? '');
  const lifeMs = (leaf: X509Certificate): number => leaf.validToDate.getTime() - Date.now();

  test('in the name asked for; leaf first, root last; the token was reviewed for the audience', async () => {
    const { call, lines, audiences } = service();
    const chain = await call();
    assert.equal(leafOf(chain).subjectAltName, `URI:${WEB}`);
    assert.equal(leafOf(chain).subject, undefined);
    assert.deepEqual(chain.slice(1), [root.rootsPem]);
    assert.deepEqual(audiences, [['istio-ca']]);
    assert.partialDeepStrictEqual(JSON.parse(lines[0] ?? ''), {
      message: 'certificate signed',
      caller: 'istio-system/ztunnel',
      callerPod: 'ztunnel-n1',
      requested: WEB,
      identity: WEB,
      node: 'n1',
    });
  });

  test("in the caller's own name when it asks for no other, trusted or not", async () => {
    const { call } = service({ answer: { ...ZTUNNEL, username: 'system:serviceaccount:shop:db' } });
    const chain = await call({ impersonated: undefined, csrPem: await newCsr({}) });
    assert.equal(leafOf(chain).subjectAltName, 'URI:spiffe://cluster.local/ns/shop/sa/db');
  });

  test('for 24 hours when no life is asked for, and never beyond the root', async () => {
    const { call } = service();
    const day = lifeMs(leafOf(await call({ ttlSeconds: 0 })));
    assert.ok(Math.abs(day - DAY_S * 1000) < 60_000, `${day} ms`);
    const long = leafOf(await call({ ttlSeconds: 89 * DAY_S }));
    assert.equal(long.validToDate.getTime(), Math.floor(root.authority.notAfter.getTime() / 1000) * 1000);
  });

  test('for a pod that only the fresh view knows', async () => {
    const { call } = service({ pods: view(POD, []), fresh: view(POD, ['n1/shop/web']) });
    assert.equal((await call()).length, 2);
  });
});
