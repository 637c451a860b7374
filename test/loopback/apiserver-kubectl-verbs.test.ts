// The verbs of kubectl on built-in kinds, each as people type it, with an old and a current kubectl: the old one reads
// OpenAPI v2 and sends JSON, the current one sends protobuf where it creates.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { testEachKubectl } from '../lib/kubectls.ts';
import { type ApiRig, withApiServer } from './apiserver-rig.ts';
import { kubectlFor, ok } from './kubectl-rig.ts';

const WEB = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: local/shop-web
        env: [{name: COLOUR, value: red}, {name: SIZE, value: small}]
        ports: [{containerPort: 8080}]
        resources: {limits: {cpu: 1000m, memory: 1024Mi}}
`;

testEachKubectl(
  'create: namespace, deployment, secret, configmap, account, service, role',
  async (program) => {
    await withApiServer(async (rig) => {
      const kubectl = kubectlFor(rig, program);
      ok(await kubectl('create namespace shop'));
      ok(await kubectl('create deployment web -n shop --image=local/shop-web --replicas=3'));
      ok(await kubectl('create secret generic keys -n shop --from-literal=user=anna'));
      ok(await kubectl('create configmap settings -n shop --from-literal=colour=red'));
      ok(await kubectl('create serviceaccount builder -n shop'));
      ok(await kubectl('create service clusterip web -n shop --tcp=80:8080'));
      ok(await kubectl('create role reader -n shop --verb=get,list --resource=pods'));
      ok(await kubectl('create rolebinding readers -n shop --role=reader --serviceaccount=shop:builder'));
      const shown = async (path: string): Promise<unknown> => {
        const answer = await rig.call('GET', path);
        assert.equal(answer.code, 200, path);
        const { apiVersion: _, kind: __, metadata: ___, status: ____, ...content } = answer.body;
        return content;
      };
      const { spec } = (await rig.call('GET', '/apis/apps/v1/namespaces/shop/deployments/web')).body;
      assert.equal(spec.replicas, 3);
      assert.deepEqual(spec.selector, { matchLabels: { app: 'web' } });
      assert.equal(spec.template.spec.containers[0].image, 'local/shop-web');
      assert.deepEqual(await shown('/api/v1/namespaces/shop/secrets/keys'), {
        data: { user: 'YW5uYQ==' },
        type: 'Opaque',
      });
      assert.deepEqual(await shown('/api/v1/namespaces/shop/configmaps/settings'), {
        data: { colour: 'red' },
      });
      assert.deepEqual(await shown('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/reader'), {
        rules: [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods'] }],
      });
      assert.deepEqual(
        await shown('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/readers'),
        {
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
          subjects: [{ kind: 'ServiceAccount', name: 'builder', namespace: 'shop' }],
        },
      );
      const ports = ok(await kubectl('get service web -n shop -o=jsonpath={.spec.ports[0].targetPort}'));
      assert.equal(ports, '8080');
      const [, minor] = program.version;
      if (minor >= 24) {
        const token = ok(await kubectl('create token builder -n shop --duration=20m')).trim();
        const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as {
          sub: string;
          exp: number;
          iat: number;
        };
        assert.equal(claims.sub, 'system:serviceaccount:shop:builder');
        assert.equal(claims.exp - claims.iat, 1200);
      }
      assert.match(ok(await kubectl('auth can-i list pods')), /^yes/);
      ok(await kubectl('delete namespace shop --wait=false'));
    });
  },
);

testEachKubectl('apply, diff, patch, label, annotate, scale, set, get, describe, delete', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    ok(await kubectl('create namespace shop'));
    assert.match(ok(await kubectl('apply -f -', WEB)), /deployment\.apps\/web created/);
    const limits = '-o=jsonpath={.spec.template.spec.containers[0].resources.limits}';
    assert.deepEqual(JSON.parse(ok(await kubectl(`get deploy web -n shop ${limits}`))), {
      cpu: '1',
      memory: '1Gi',
    });
    // kubectl compares texts and sends 1000m again; the server sees that nothing changes.
    ok(await kubectl('apply -f -', WEB));
    assert.equal(ok(await kubectl('get deploy web -n shop -o=jsonpath={.metadata.generation}')), '1');
    const changed = WEB.replace('value: red', 'value: blue').replace(', {name: SIZE, value: small}', '');
    const difference = await kubectl('diff -f -', changed);
    assert.equal(difference.code, 1, difference.err);
    assert.match(difference.out, /^- +value: red$/m);
    assert.match(difference.out, /^\+ +value: blue$/m);
    ok(await kubectl('apply -f -', changed));
    const env = '-o=jsonpath={.spec.template.spec.containers[0].env}';
    assert.deepEqual(JSON.parse(ok(await kubectl(`get deploy web -n shop ${env}`))), [
      { name: 'COLOUR', value: 'blue' },
    ]);
    const patch =
      '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"X","value":"1"}]}]}}}}';
    ok(await kubectl(`patch deploy web -n shop -p ${patch}`));
    assert.deepEqual(
      (JSON.parse(ok(await kubectl(`get deploy web -n shop ${env}`))) as { name: string }[])
        .map(({ name }) => name)
        .sort(),
      ['COLOUR', 'X'],
    );
    ok(await kubectl('label deploy web -n shop tier=front'));
    ok(await kubectl('annotate deploy web -n shop note=hello'));
    ok(await kubectl('scale deploy web -n shop --replicas=4'));
    ok(await kubectl('set image deploy/web -n shop web=local/other'));
    assert.match(ok(await kubectl('get deploy -n shop -l tier=front')), /^web +0\/4 +0 +0 /m);
    assert.match(ok(await kubectl('describe deploy web -n shop')), /note: hello/);
    assert.match(ok(await kubectl('expose deploy web -n shop --port=80 --target-port=8080')), /exposed/);
    assert.match(ok(await kubectl('describe service web -n shop')), /TargetPort: +8080\/TCP/);
    ok(await kubectl('delete deploy,service web -n shop --timeout=30s'));
    assert.equal((await kubectl('get deploy web -n shop')).code, 1);
  });
});

testEachKubectl('rollout status, wait and watch end when the status says so', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    ok(await kubectl('create namespace shop'));
    ok(await kubectl('apply -f -', WEB));
    const rollout = kubectl('rollout status deploy/web -n shop --timeout=30s');
    const waiting = kubectl('wait deploy/web -n shop --for=condition=Available --timeout=30s');
    await finishRollout(rig);
    assert.match(ok(await rollout), /successfully rolled out/);
    assert.match(ok(await waiting), /condition met/);
    ok(await kubectl('rollout restart deploy/web -n shop'));
    const deleted = kubectl('wait deploy/web -n shop --for=delete --timeout=30s');
    ok(await kubectl('delete deploy web -n shop'));
    // What is gone already is no error from 1.22 on; earlier ones find nothing to wait for.
    const end = await deleted;
    assert.ok(end.code === 0 || /not found|no matching resources/.test(end.err), end.err);
  });
});

async function finishRollout(rig: ApiRig): Promise<void> {
  const status = {
    observedGeneration: 1,
    replicas: 2,
    updatedReplicas: 2,
    readyReplicas: 2,
    availableReplicas: 2,
    conditions: [{ type: 'Available', status: 'True', reason: 'MinimumReplicasAvailable', message: '' }],
  };
  const answer = await rig.call('PATCH', '/apis/apps/v1/namespaces/shop/deployments/web/status', {
    body: { status },
    type: 'application/merge-patch+json',
  });
  assert.equal(answer.code, 200, answer.text);
}

testEachKubectl('explain shows types and descriptions of built-in and custom kinds', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    const container = ok(await kubectl('explain deployment.spec.template.spec.containers'));
    assert.match(container, /livenessProbe\s+<(Probe|Object)>/);
    assert.match(container, /Periodic probe of container liveness/);
    assert.match(ok(await kubectl('explain pod.spec --recursive')), /preStop\s+<(LifecycleHandler|Object)>/);
    assert.match(ok(await kubectl('explain service.spec.ports.targetPort')), /Number or name of the port/);
    assert.match(ok(await kubectl('explain ap.spec.rules.from.source')), /principals\s+<\[\]string>/);
    assert.match(ok(await kubectl('explain crd.spec.versions.schema')), /openAPIV3Schema/);
  });
});

testEachKubectl('misspelt and mistyped fields are refused before or by the server', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    ok(await kubectl('create namespace shop'));
    const [, minor] = program.version;
    const misspelt = await kubectl('apply -f -', WEB.replace('containerPort', 'containerPrt'));
    assert.equal(misspelt.code, 1);
    assert.match(
      misspelt.err,
      minor >= 25
        ? /strict decoding error: unknown field "spec\.template\.spec\.containers\[0\]\.ports\[0\]\.containerPrt"/
        : /unknown field "containerPrt" in io\.k8s\.api\.core\.v1\.ContainerPort/,
    );
    const mistyped = await kubectl(
      'apply --validate=false -f -',
      WEB.replace('replicas: 2', 'replicas: two'),
    );
    assert.equal(mistyped.code, 1);
    assert.match(
      mistyped.err,
      /cannot unmarshal string into Go struct field DeploymentSpec\.spec\.replicas of type int32/,
    );
    const file = join(rig.folder, 'twice.json');
    writeFileSync(file, '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","nmae":"b"}}');
    const created = await kubectl(`create -f ${file}`);
    assert.equal(created.code, 1);
    assert.match(
      created.err,
      minor >= 25 ? /unknown field "metadata\.nmae"/ : /unknown field "nmae" in io\.k8s/,
    );
  });
});
