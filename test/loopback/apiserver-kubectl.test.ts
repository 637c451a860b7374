// The stock kubectl against the embedded API server: what a person types in the first ten minutes.

import assert from 'node:assert/strict';
import { testEachKubectl } from '../lib/kubectls.ts';
import { withApiServer } from './apiserver-rig.ts';
import { kubectlFor, ok } from './kubectl-rig.ts';

const MANIFEST = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {colour: red}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: local/shop-web, env: [{name: COLOUR, value: red}], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
spec: {containers: [{name: main, image: local/shell}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-web, namespace: shop}
spec:
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]
`;

testEachKubectl('apply, again, with changes, and what get shows', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    assert.match(ok(await kubectl('apply -f -', MANIFEST)), /deployment\.apps\/web created/);
    const again = ok(await kubectl('apply -f -', MANIFEST));
    assert.equal(again.match(/unchanged/g)?.length, 6, again);
    const changed = MANIFEST.replace('value: red', 'value: blue').replace('port: 80,', 'port: 81,');
    const second = ok(await kubectl('apply -f -', changed));
    assert.match(second, /deployment\.apps\/web configured/);
    assert.match(second, /service\/web configured/);
    const value = '-o=jsonpath={.spec.template.spec.containers[0].env[0].value}';
    assert.equal(ok(await kubectl(`get deploy web -n shop ${value}`)), 'blue');
    const all = ok(await kubectl('get all,ap,cm -n shop'));
    assert.match(all, /^NAME +READY +STATUS +RESTARTS +AGE\npod\/one +0\/1 +Pending +0 +\d+s$/m);
    assert.match(all, /^service\/web +ClusterIP +10\.96\.\d+\.\d+ +<none> +81\/TCP/m);
    assert.match(all, /^deployment\.apps\/web +0\/2 +0 +0/m);
    assert.match(all, /^authorizationpolicy\.security\.istio\.io\/allow-web +ALLOW/m);
    assert.match(
      ok(await kubectl('apply --server-side -f -', changed.replace('colour: red', 'colour: green'))),
      /configmap\/settings serverside-applied/,
    );
    assert.equal(ok(await kubectl('get cm settings -n shop -o=jsonpath={.data.colour}')), 'green');
    assert.match(ok(await kubectl('explain ap.spec.rules.from.source')), /principals/);
  });
});

testEachKubectl('label, annotate, patch, scale, set image, wait, describe, delete', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    ok(await kubectl('apply -f -', MANIFEST));
    ok(await kubectl('label namespace shop istio.io/dataplane-mode=ambient'));
    assert.equal(ok(await kubectl('get ns -l istio.io/dataplane-mode=ambient -o name')), 'namespace/shop\n');
    ok(await kubectl('label namespace shop istio.io/dataplane-mode-'));
    assert.equal(ok(await kubectl('get ns -l istio.io/dataplane-mode=ambient -o name')), '');
    ok(await kubectl('annotate pod one -n shop note=hello'));
    ok(
      await kubectl(
        'patch deploy web -n shop --type=json -p [{"op":"replace","path":"/spec/replicas","value":3}]',
      ),
    );
    ok(await kubectl('scale deploy web -n shop --replicas=4'));
    ok(await kubectl('set image deploy/web -n shop web=local/other'));
    ok(await kubectl('rollout restart deploy/web -n shop'));
    assert.equal(
      ok(
        await kubectl(
          'get deploy web -n shop -o=jsonpath={.spec.replicas},{.spec.template.spec.containers[0].image},{.metadata.generation}',
        ),
      ),
      '4,local/other,5',
    );
    const waiting = kubectl('wait pod/one -n shop --for=condition=Ready --timeout=30s');
    const status = { status: { conditions: [{ type: 'Ready', status: 'True' }] } };
    await rig.call('PATCH', '/api/v1/namespaces/shop/pods/one/status', {
      body: status,
      type: 'application/merge-patch+json',
    });
    assert.match(ok(await waiting), /condition met/);
    assert.match(ok(await kubectl('describe pod one -n shop')), /note: hello/);
    assert.match(ok(await kubectl('delete pod one -n shop --timeout=30s')), /pod "one" deleted/);
    const gone = await kubectl('get pod one -n shop');
    assert.equal(gone.code, 1);
    assert.match(gone.err, /pods "one" not found/);
    assert.match(
      ok(await kubectl('api-resources --api-group=security.istio.io')),
      /peerauthentications +pa /,
    );
  });
});

testEachKubectl('a misspelt policy field is refused, whatever validation is asked for', async (program) => {
  await withApiServer(async (rig) => {
    const kubectl = kubectlFor(rig, program);
    ok(await kubectl('apply -f -', MANIFEST));
    // Up to 1.24 kubectl knows on or off only, and with `true` it refuses by itself.
    for (const validate of program.version[1] < 25 ? ['false'] : ['true', 'ignore'])
      for (const [good, bad, path] of [
        ['principals', 'principal', 'spec.rules[0].from[0].source.principal'],
        ['from:', 'form:', 'spec.rules[0].form'],
        ['rules:', 'rule:', 'spec.rule'],
      ] as const) {
        const manifest = MANIFEST.slice(MANIFEST.indexOf('apiVersion: security')).replace(good, bad);
        for (const name of ['allow-web', 'fresh']) {
          const run = await kubectl(`apply --validate=${validate} -f -`, manifest.replace('allow-web', name));
          assert.equal(run.code, 1, `${bad} ${name}: ${run.out}`);
          assert.ok(run.err.includes(`unknown field "${path}"`), run.err);
        }
      }
    assert.equal(
      ok(await kubectl('get ap -n shop -o=jsonpath={.items[*].spec.rules[0].from[0].source.principals[0]}')),
      'cluster.local/ns/shop/sa/web',
    );
  });
});
