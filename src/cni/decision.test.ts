import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Pod } from '#k8s/objects.ts';
import { ip } from '#net/ip.ts';
import { type Enrolled, type EnrolmentPolicy, eligibility, nextStep, podIps } from './decision.ts';

const POLICY: EnrolmentPolicy = {
  systemNamespace: 'istio-system',
  excludedNamespaces: new Set(['kube-system']),
};
const MODE = 'istio.io/dataplane-mode';

interface PodFacts {
  readonly namespace?: string;
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
  readonly hostNetwork?: boolean;
  readonly status?: Pod['status'];
}

function pod(facts: PodFacts = {}): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web',
      namespace: facts.namespace ?? 'shop',
      uid: 'u1',
      labels: facts.labels ?? {},
      annotations: facts.annotations ?? {},
    },
    spec: { containers: [], ...(facts.hostNetwork === undefined ? {} : { hostNetwork: facts.hostNetwork }) },
    ...(facts.status === undefined ? {} : { status: facts.status }),
  };
}

test('labels of pod and namespace decide; exclusions come first', () => {
  const ambient = { [MODE]: 'ambient' };
  const cases: [PodFacts, Record<string, string> | undefined, string][] = [
    [{}, undefined, 'not-labelled'],
    [{}, ambient, 'namespace-label'],
    [{ labels: ambient }, undefined, 'pod-label'],
    [{ labels: { [MODE]: 'none' } }, ambient, 'opted-out'],
    // Some other value: the namespace decides.
    [{ labels: { [MODE]: 'other' } }, ambient, 'namespace-label'],
    [{ labels: { [MODE]: 'other' } }, undefined, 'not-labelled'],
    [{}, { [MODE]: 'none' }, 'not-labelled'],
    [{ hostNetwork: true, labels: ambient }, ambient, 'host-network'],
    [{ annotations: { 'sidecar.istio.io/status': '' }, labels: ambient }, ambient, 'has-sidecar'],
    [{ namespace: 'istio-system', labels: { ...ambient, app: 'ztunnel' } }, ambient, 'is-ztunnel'],
    [{ namespace: 'shop', labels: { ...ambient, app: 'ztunnel' } }, ambient, 'pod-label'],
    [{ namespace: 'kube-system', labels: ambient }, ambient, 'namespace-excluded'],
  ];
  for (const [facts, namespaceLabels, reason] of cases)
    assert.equal(eligibility(pod(facts), namespaceLabels, POLICY).reason, reason, JSON.stringify(facts));
});

test('addresses: podIPs before podIP, none while there is none', () => {
  assert.deepEqual(podIps(pod()), []);
  assert.deepEqual(podIps(pod({ status: { podIP: '10.0.0.1' } })), ['10.0.0.1']);
  assert.deepEqual(
    podIps(pod({ status: { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00::1' }] } })),
    ['10.0.0.1', 'fd00::1'],
  );
});

const YES = { enrol: true, reason: 'pod-label' } as const;
const NO = { enrol: false, reason: 'opted-out' } as const;
const NONE: Enrolled = { stage: 'none' };
const DONE: Enrolled = { stage: 'done', ips: [ip('10.0.0.1')] };
const at = (address: string): Pod['status'] => ({ phase: 'Running', podIP: address });
const ENABLED = { 'ambient.istio.io/redirection': 'enabled' };

test('the next step follows from what is wanted and what is there', () => {
  assert.deepEqual(nextStep(pod({ status: at('10.0.0.1') }), YES, NONE), { kind: 'add', ips: ['10.0.0.1'] });
  assert.deepEqual(nextStep(pod(), YES, NONE), { kind: 'nothing', reason: 'no-address-yet' });
  assert.deepEqual(nextStep(pod(), YES, { stage: 'partial' }, [ip('10.0.0.1')]), {
    kind: 'add',
    ips: ['10.0.0.1'],
  });
  assert.equal(nextStep(pod({ status: at('10.0.0.1') }), YES, DONE).kind, 'nothing');
  // The plugin knew the address first; the API server's silence does not take it back.
  assert.equal(nextStep(pod(), YES, DONE).kind, 'nothing');
  assert.deepEqual(nextStep(pod({ status: at('10.0.0.2') }), YES, DONE), {
    kind: 'addresses',
    ips: ['10.0.0.2'],
  });
  assert.deepEqual(nextStep(pod({ status: at('10.0.0.1') }), NO, DONE), { kind: 'remove', podEnded: false });
  // Annotated by an agent before us.
  assert.deepEqual(nextStep(pod({ annotations: ENABLED }), NO, NONE), { kind: 'remove', podEnded: false });
  assert.deepEqual(nextStep(undefined, NO, DONE), { kind: 'remove', podEnded: true });
  assert.deepEqual(nextStep(pod({ status: { phase: 'Failed' } }), YES, DONE), {
    kind: 'remove',
    podEnded: true,
  });
  assert.equal(nextStep(pod({ status: { phase: 'Succeeded' } }), YES, NONE).kind, 'nothing');
});

const podArbitrary = fc
  .record({
    namespace: fc.constantFrom('shop', 'istio-system', 'kube-system'),
    mode: fc.constantFrom(undefined, 'ambient', 'none', 'x'),
    isZtunnel: fc.boolean(),
    hasSidecar: fc.boolean(),
    hostNetwork: fc.boolean(),
    annotation: fc.constantFrom(undefined, 'enabled', 'pending', 'strange'),
    phase: fc.constantFrom('Pending', 'Running', 'Succeeded', 'Failed'),
    address: fc.constantFrom(undefined, '10.0.0.1', '10.0.0.2'),
  })
  .map((facts) => ({
    facts,
    pod: pod({
      namespace: facts.namespace,
      hostNetwork: facts.hostNetwork,
      labels: {
        ...(facts.mode === undefined ? {} : { [MODE]: facts.mode }),
        ...(facts.isZtunnel ? { app: 'ztunnel' } : {}),
      },
      annotations: {
        ...(facts.hasSidecar ? { 'sidecar.istio.io/status': '{}' } : {}),
        ...(facts.annotation === undefined ? {} : { 'ambient.istio.io/redirection': facts.annotation }),
      },
      status: {
        phase: facts.phase as 'Pending',
        ...(facts.address === undefined ? {} : { podIP: facts.address }),
      },
    }),
  }));
const enrolledArbitrary = fc.constantFrom<Enrolled>(NONE, { stage: 'partial' }, DONE);

test('property: what must never be captured never is, and every step leads to rest', () => {
  fc.assert(
    fc.property(
      podArbitrary,
      fc.constantFrom(undefined, 'ambient', 'none'),
      enrolledArbitrary,
      ({ facts, pod: candidate }, namespaceMode, enrolled) => {
        const labels = namespaceMode === undefined ? undefined : { [MODE]: namespaceMode };
        const decision = eligibility(candidate, labels, POLICY);
        const step = nextStep(candidate, decision, enrolled);
        const isForbidden =
          facts.hostNetwork ||
          facts.hasSidecar ||
          facts.mode === 'none' ||
          facts.namespace === 'kube-system' ||
          (facts.isZtunnel && facts.namespace === 'istio-system');
        if (isForbidden) assert.notEqual(step.kind, 'add');
        if (facts.mode !== 'ambient' && namespaceMode !== 'ambient') assert.equal(decision.enrol, false);
        // Doing what the step says leads to a state with nothing left to do.
        switch (step.kind) {
          case 'add':
          case 'addresses':
            assert.equal(nextStep(candidate, decision, { stage: 'done', ips: step.ips }).kind, 'nothing');
            break;
          case 'remove': {
            const bare = pod({ ...facts, annotations: {}, status: candidate.status });
            assert.equal(nextStep(bare, { enrol: false, reason: 'opted-out' }, NONE).kind, 'nothing');
            break;
          }
          case 'nothing':
            break;
        }
      },
    ),
  );
});
