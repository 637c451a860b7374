// What kubectl asks, request by request. The table is written by hand from what each age of kubectl is known to do; when
// a new kubectl asks differently, this test shows it before a user does.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from '#telemetry/log.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Kubectl, kubectls } from '../lib/kubectls.ts';
import { withApiServer } from './apiserver-rig.ts';
import { kubectlFor } from './kubectl-rig.ts';

const PROTOBUF = 'application/vnd.kubernetes.protobuf';
const MERGE = 'application/merge-patch+json';
const STRATEGIC = 'application/strategic-merge-patch+json';
const APPLY = 'application/apply-patch+yaml';
const JSON_BODY = 'application/json';

const WEB = '/apis/apps/v1/namespaces/shop/deployments/web';
const ALL = '/apis/apps/v1/namespaces/shop/deployments';
const SHOP = '/api/v1/namespaces/shop';
const V3 = ['GET /openapi/v3', 'GET /openapi/v3/apis/apps/v1'];
const V2 = ['GET /openapi/v2'];

const MANIFEST = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: local/shop-web}]}
`;

interface Step {
  readonly run: string;
  readonly input?: string;
  /** kubectl up to 1.24, and from 1.35 on; what lies between is in transition and not compared. */
  readonly old: readonly string[];
  readonly current: readonly string[];
  readonly exit?: number;
}

/** The same at both ends. */
const both = (run: string, ...requests: string[]): Step => ({ run, old: requests, current: requests });
const getThenPatch = (run: string, manager: string, type: string): Step =>
  both(run, `GET ${WEB}`, `PATCH ${WEB}?fieldManager=${manager} ${type}`);

const STEPS: readonly Step[] = [
  {
    run: 'create namespace shop',
    // The old one names no type at all.
    old: ['POST /api/v1/namespaces?fieldManager=kubectl-create'],
    current: [`POST /api/v1/namespaces?fieldManager=kubectl-create&fieldValidation=Strict ${PROTOBUF}`],
  },
  {
    run: 'apply -f -',
    input: MANIFEST,
    old: [
      ...V2,
      `GET ${WEB}`,
      `GET ${SHOP}`,
      `POST ${ALL}?fieldManager=kubectl-client-side-apply ${JSON_BODY}`,
    ],
    current: [
      ...V3,
      `GET ${WEB}`,
      `GET ${SHOP}`,
      `POST ${ALL}?fieldManager=kubectl-client-side-apply&fieldValidation=Strict ${JSON_BODY}`,
    ],
  },
  {
    run: 'apply -f -',
    input: MANIFEST.replace('replicas: 2', 'replicas: 3'),
    old: [...V2, `GET ${WEB}`, `PATCH ${WEB}?fieldManager=kubectl-client-side-apply ${STRATEGIC}`],
    current: [
      ...V3,
      `GET ${WEB}`,
      `PATCH ${WEB}?fieldManager=kubectl-client-side-apply&fieldValidation=Strict ${STRATEGIC}`,
    ],
  },
  {
    run: 'diff -f -',
    input: MANIFEST,
    exit: 1,
    old: [
      ...V2,
      ...V2,
      `GET ${WEB}`,
      `PATCH ${WEB}?dryRun=All&fieldManager=kubectl-client-side-apply ${STRATEGIC}`,
    ],
    current: [
      `GET ${WEB}`,
      ...V3,
      `PATCH ${WEB}?dryRun=All&fieldManager=kubectl-client-side-apply ${STRATEGIC}`,
    ],
  },
  {
    run: 'apply --server-side --force-conflicts -f -',
    input: MANIFEST,
    old: [...V2, `PATCH ${WEB}?fieldManager=kubectl&force=true ${APPLY}`],
    // The second hands what was applied client-side over to the server, the third the fields that the client-side
    // apply owned, whereupon the first is repeated.
    current: [
      ...V3,
      `PATCH ${WEB}?fieldManager=kubectl&fieldValidation=Strict&force=true ${APPLY}`,
      `PATCH ${WEB}?fieldManager=kubectl-last-applied&fieldValidation=Strict ${APPLY}`,
      `PATCH ${WEB}?fieldManager=kubectl&fieldValidation=Strict application/json-patch+json`,
      `PATCH ${WEB}?fieldManager=kubectl&fieldValidation=Strict&force=true ${APPLY}`,
    ],
  },
  both('get deploy -n shop', `GET ${ALL}?limit=500`),
  getThenPatch('label deploy web -n shop a=b', 'kubectl-label', MERGE),
  getThenPatch('annotate deploy web -n shop a=b', 'kubectl-annotate', MERGE),
  getThenPatch('set image deploy/web -n shop web=local/x', 'kubectl-set', STRATEGIC),
  getThenPatch('rollout restart deploy/web -n shop', 'kubectl-rollout', STRATEGIC),
  getThenPatch('patch deploy web -n shop -p {"spec":{"replicas":2}}', 'kubectl-patch', STRATEGIC),
  both('scale deploy web -n shop --replicas=1', `GET ${WEB}`, `PATCH ${WEB}/scale ${MERGE}`),
  { run: 'explain deployment.spec', old: V2, current: V3 },
  {
    run: 'auth can-i list pods',
    old: ['GET /api/v1', `POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews ${JSON_BODY}`],
    current: ['GET /api/v1', `POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews ${PROTOBUF}`],
  },
  {
    run: 'rollout status deploy/web -n shop --timeout=1s',
    exit: 1,
    old: [`GET ${WEB}`, `GET ${ALL}?limit=500&resourceVersion=0`, `GET ${ALL}?watch=true`],
    current: [`GET ${WEB}`, `GET ${ALL}?sendInitialEvents=true&watch=true`],
  },
  {
    run: 'delete deploy web -n shop',
    old: [`DELETE ${WEB} ${JSON_BODY}`, `GET ${ALL}`],
    current: [`DELETE ${WEB} ${JSON_BODY}`, `GET ${WEB}`],
  },
];

const LATER: readonly Step[] = [
  {
    run: 'create serviceaccount builder -n shop',
    old: [],
    current: [`POST ${SHOP}/serviceaccounts?fieldManager=kubectl-create&fieldValidation=Strict ${PROTOBUF}`],
  },
  {
    run: 'create token builder -n shop',
    old: [],
    current: [`POST ${SHOP}/serviceaccounts/builder/token ${PROTOBUF}`],
  },
];

/** Parameters that say what is asked; the others are deadlines, versions and names. */
const TELLING = ['dryRun', 'fieldManager', 'fieldValidation', 'force', 'limit', 'sendInitialEvents', 'watch'];

/** `PATCH /path?dryRun=All&fieldManager=m TYPE` of what the server logs for each request. */
function asked(line: string, type: unknown): string {
  const [method, url] = line.split(' ') as [string, string];
  const { pathname, searchParams } = new URL(url, 'https://localhost');
  const told = [...searchParams]
    .filter(([name, value]) => TELLING.includes(name) || (name === 'resourceVersion' && value === '0'))
    .map(([name, value]) => `${name}=${value}`)
    .sort();
  return `${method} ${pathname}${told.length === 0 ? '' : `?${told.join('&')}`}${type === '-' ? '' : ` ${String(type)}`}`;
}

function recorder(): { readonly log: Logger; readonly take: () => string[] } {
  const requests: string[] = [];
  const log: Logger = {
    ...silentLogger,
    enabled: () => true,
    debug: (message, fields) => {
      if (/^[A-Z]+ \//.test(message)) requests.push(asked(message, fields?.type));
    },
    scoped: () => log,
  };
  return { log, take: () => requests.splice(0) };
}

async function compare(program: Kubectl, age: 'old' | 'current'): Promise<void> {
  const { log, take } = recorder();
  await withApiServer(
    async (rig) => {
      const kubectl = kubectlFor(rig, program);
      await kubectl('get pods');
      const discovery = take();
      assert.deepEqual(discovery.slice(0, 2).sort(), ['GET /api', 'GET /apis']);
      assert.equal(discovery.at(-1), 'GET /api/v1/namespaces/default/pods?limit=500');
      // The old one asks for every group by itself.
      if (age === 'old') assert.ok(discovery.includes('GET /apis/apps/v1'));
      else assert.equal(discovery.length, 3);
      for (const step of [...STEPS, ...(age === 'current' ? LATER : [])]) {
        const { code, err } = await kubectl(step.run, step.input);
        assert.equal(code, step.exit ?? 0, `${step.run}: ${err}`);
        assert.deepEqual(take(), step[age], step.run);
      }
    },
    { log },
  );
}

for (const kubectl of kubectls()) {
  const name = `requests of kubectl, verb by verb: ${kubectl.name}`;
  if ('missing' in kubectl) test(name, { skip: `not run: ${kubectl.missing}` }, () => {});
  else if (kubectl.version[1] <= 24) test(name, () => compare(kubectl, 'old'));
  else if (kubectl.version[1] >= 35) test(name, () => compare(kubectl, 'current'));
  else test(name, { skip: 'not run: between the ages that the table knows' }, () => {});
}
