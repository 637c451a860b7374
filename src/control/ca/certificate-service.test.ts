// Every way to be refused, and what is signed otherwise (control-plane.md §5.1–5.3, trap 7 of §14).

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';
import { createAuthority } from '#tls/issue.ts';
import { type CertificateRequest, createCertificateService } from './certificate-service.ts';
import type { PodFacts, PodView } from './pod-view.ts';
import type { Root } from './root-store.ts';
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

let root: Root;
let csrPem: string;
before(async () => {
  const authority = await createAuthority({ organization: 'cluster.local', validDays: 30 });
  root = { authority, rootsPem: authority.certPem };
  csrPem = (await requestFor(WEB)).csrPem;
});

interface Setting {
  answer?: Answer | Error;
  pods?: PodView;
  fresh?: PodView | Error;
  root?: Root;
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
      root: () => setting.root ?? root,
      review: createTokenReviewer(
        {
          client: {
            request: async <T>(_method: string, _path: string, body: unknown): Promise<T> => {
              audiences.push((body as { spec: { audiences: unknown } }).spec.audiences);
              if (answer instanceof Error) throw answer;
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
        { audiences: ['istio-ca'] },
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

  test('an expired root', async () => {
    const clock = { now: () => Date.now() - 40 * DAY_S * 1000, monotonicMs: () => 0 };
    const old = await createAuthority({ organization: 'x', validDays: 30, clock });
    const authority = await createAuthority({ validDays: 1, keyPem: old.keyPem, certPem: old.certPem });
    const { call } = service({ root: { authority, rootsPem: authority.certPem } });
    await assert.rejects(call(), (error: MeshError) => {
      assert.deepEqual(error.details, { status: 'INTERNAL', reason: 'signing-failed' });
      return true;
    });
  });
});

describe('signed', () => {
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
    const chain = await call({ impersonated: undefined });
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
