// kubectl's server-side apply against the embedded API server: conflicts, force, owners shown, and the way there from
// client-side apply. Then the commands around a Deployment's revisions, with the controllers at work.

import assert from 'node:assert/strict';
import { createRestClient } from '#k8s/rest-client.ts';
import { startControllers } from '#local/controllers/controllers.ts';
import { silentLogger } from '#telemetry/log.ts';
import { testEachKubectl } from '../lib/kubectls.ts';
import { type ApiRig, adminEndpoint, type Json, withApiServer } from './apiserver-rig.ts';
import { kubectlFor, ok } from './kubectl-rig.ts';

const web = (replicas: number, image = 'local/one'): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: ${image}, env: [{name: COLOUR, value: red}], ports: [{containerPort: 80}]}
`;

const DEPLOYMENT = '/apis/apps/v1/namespaces/default/deployments/web';

async function entriesOf(rig: ApiRig): Promise<Json[]> {
  return (await rig.call('GET', DEPLOYMENT)).body.metadata.managedFields;
}
const names = (entries: readonly Json[]): string[] =>
  entries.map(({ manager, operation }) => `${manager} ${operation}`).sort();

testEachKubectl('apply --server-side: conflict, force, another manager, who owns what', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    assert.match(
      ok(await kubectl('apply --server-side -f -', web(2))),
      /deployment\.apps\/web serverside-applied/,
    );
    const { resourceVersion } = (await rig.call('GET', DEPLOYMENT)).body.metadata;
    ok(await kubectl('apply --server-side -f -', web(2)));
    assert.equal((await rig.call('GET', DEPLOYMENT)).body.metadata.resourceVersion, resourceVersion);
    const refused = await kubectl('apply --server-side --field-manager=other -f -', web(3));
    assert.notEqual(refused.code, 0);
    assert.match(refused.err, /Apply failed with 1 conflict: conflict with "kubectl": \.spec\.replicas/);
    assert.match(refused.err, /--force-conflicts/, 'kubectl recognizes the conflict and explains it');
    ok(await kubectl('apply --server-side --field-manager=other --force-conflicts -f -', web(3)));
    assert.equal(ok(await kubectl('get deploy web -o jsonpath={.spec.replicas}')), '3');
    const shown = ok(await kubectl('get deploy web -o yaml --show-managed-fields'));
    assert.match(shown, /^ {4}manager: other\n {4}operation: Apply\n/m);
    assert.match(shown, /k:\{"containerPort":80,"protocol":"TCP"\}:/);
    assert.doesNotMatch(ok(await kubectl('get deploy web -o yaml')), /managedFields/);
    // The one that lost the field may leave it out, and then owns what it still applies.
    ok(await kubectl('apply --server-side -f -', web(3).replace('  replicas: 3\n', '')));
    assert.equal(ok(await kubectl('get deploy web -o jsonpath={.spec.replicas}')), '3');
    const policy = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {action: ALLOW, rules: [{}]}
`;
    ok(await kubectl('apply --server-side -f -', policy));
    const other = await kubectl(
      'apply --server-side --field-manager=other -f -',
      policy.replace('ALLOW', 'DENY'),
    );
    assert.match(other.err, /conflict with "kubectl": \.spec\.action/);
  });
});

testEachKubectl(
  'from client-side to server-side apply, and no field is lost or disputed on the way',
  async (program) => {
    await withApiServer(async (rig) => {
      const kubectl = kubectlFor(rig, program);
      ok(await kubectl('apply -f -', web(2)));
      assert.deepEqual(names(await entriesOf(rig)), ['kubectl-client-side-apply Update']);
      // A changed value and a field less, in the same step.
      const next = web(4).replace(', env: [{name: COLOUR, value: red}]', '');
      ok(await kubectl('apply --server-side -f -', next));
      const { spec, metadata } = (await rig.call('GET', DEPLOYMENT)).body;
      assert.equal(spec.replicas, 4);
      assert.equal(
        spec.template.spec.containers[0].env,
        undefined,
        'what the new configuration leaves out is gone',
      );
      const owners = names(metadata.managedFields);
      assert.ok(owners.includes('kubectl Apply'), owners.join());
      assert.ok(!owners.includes('kubectl-client-side-apply Update'), owners.join());
      ok(await kubectl('apply --server-side -f -', next));
      assert.equal(
        (await rig.call('GET', DEPLOYMENT)).body.metadata.resourceVersion,
        metadata.resourceVersion,
      );
      ok(await kubectl('apply -f -', web(5)));
      assert.equal(ok(await kubectl('get deploy web -o jsonpath={.spec.replicas}')), '5');
    });
  },
);

testEachKubectl('set image, rollout restart, history, undo and status', async (program) => {
  await withApiServer(async (rig) => {
    const client = createRestClient(adminEndpoint(rig.server, rig.port));
    const controllers = await startControllers({
      client,
      log: silentLogger,
      caPem: rig.server.caPem,
      removeVolumeDirectory: async () => {},
    });
    try {
      const kubectl = kubectlFor(rig, program);
      // No pods: what is looked at are revisions, not containers.
      ok(await kubectl('apply -f -', web(0)));
      const image = async (): Promise<string> =>
        ok(await kubectl('get deploy web -o jsonpath={.spec.template.spec.containers[0].image}'));
      ok(await kubectl('rollout status deploy/web --timeout=20s'));
      ok(await kubectl('set image deploy/web web=local/two'));
      ok(await kubectl('rollout status deploy/web --timeout=20s'));
      assert.equal(await image(), 'local/two');
      ok(await kubectl('rollout restart deploy/web'));
      ok(await kubectl('rollout status deploy/web --timeout=20s'));
      assert.match(ok(await kubectl('rollout history deploy/web')), /^1 .*\n2 .*\n3 /m);
      assert.match(ok(await kubectl('rollout history deploy/web --revision=1')), /Image:\s+local\/one/);
      ok(await kubectl('rollout undo deploy/web --to-revision=1'));
      ok(await kubectl('rollout status deploy/web --timeout=20s'));
      assert.equal(await image(), 'local/one');
      assert.match(ok(await kubectl('rollout history deploy/web')), /^2 .*\n3 .*\n4 /m);
      ok(await kubectl('scale deploy/web --replicas=0 --current-replicas=0'));
    } finally {
      controllers.close();
      client.close();
    }
  });
});
