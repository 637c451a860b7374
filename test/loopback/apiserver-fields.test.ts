// What the API server says about fields over HTTP: unknown, of a wrong type, named twice; and the forms it gives values.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withApiServer } from './apiserver-rig.ts';

const PODS = '/api/v1/namespaces/default/pods';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';

const pod = (name: string, container: object): object => ({
  metadata: { name },
  spec: { containers: [{ name: 'main', image: 'local/shell', ...container }] },
});

test('an unknown field deep in a built-in kind is refused, warned of or dropped, as asked', async () => {
  await withApiServer(async ({ call }) => {
    const body = pod('deep', { imagePullPolicyy: 'Always' });
    const strict = await call('POST', `${PODS}?fieldValidation=Strict`, { body });
    assert.equal(strict.code, 400);
    assert.equal(
      strict.body.message,
      'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].imagePullPolicyy"',
    );
    const warned = await call('POST', PODS, { body });
    assert.equal(warned.code, 201);
    assert.equal(warned.headers.warning, '299 - "unknown field \\"spec.containers[0].imagePullPolicyy\\""');
    assert.equal(warned.body.spec.containers[0].imagePullPolicyy, undefined);
    const patched = await call('PATCH', `${PODS}/deep?fieldValidation=Strict`, {
      body: { metadata: { labels: { a: 'b' }, lable: 'x' } },
      type: 'application/merge-patch+json',
    });
    assert.equal(patched.code, 400);
    assert.match(patched.body.message, /strict decoding error: unknown field "metadata\.lable"$/);
    const silent = await call('POST', `${PODS}?fieldValidation=Ignore`, {
      body: pod('silent', { imagePullPolicyy: 'Always' }),
    });
    assert.equal(silent.code, 201);
    assert.equal(silent.headers.warning, undefined);
    assert.equal(silent.body.spec.containers[0].imagePullPolicyy, undefined);
  });
});

test('a value of a wrong type is refused, whatever validation is asked for', async () => {
  await withApiServer(async ({ call }) => {
    const deployment = await call('POST', `${DEPLOYMENTS}?fieldValidation=Ignore`, {
      body: { metadata: { name: 'web' }, spec: { replicas: 'three' } },
    });
    assert.equal(deployment.code, 400);
    assert.equal(
      deployment.body.message,
      'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32',
    );
    const env = await call('POST', PODS, { body: pod('a', { env: [{ name: 'PORT', value: 80 }] }) });
    assert.match(
      env.body.message,
      /cannot unmarshal number into Go struct field EnvVar\.spec\.containers\.env\.value of type string$/,
    );
    const labels = await call('POST', PODS, { body: { metadata: { name: 'a', labels: { a: 1 } } } });
    assert.match(
      labels.body.message,
      /cannot unmarshal number into Go struct field ObjectMeta\.metadata\.labels of type string$/,
    );
    const quantity = await call('POST', PODS, { body: pod('a', { resources: { limits: { cpu: '1x' } } }) });
    assert.match(quantity.body.message, /: quantities must match the regular expression '/);
    await call('POST', '/api/v1/namespaces/default/serviceaccounts', { body: { metadata: { name: 'a' } } });
    for (const [path, body] of [
      ['/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', { spec: { resourceAttributes: 'pods' } }],
      ['/api/v1/namespaces/default/serviceaccounts/a/token', { spec: { audiences: 'a' } }],
      [`${PODS}/a/binding`, { target: { name: 1 } }],
    ] as const) {
      const answer = await call('POST', path, { body });
      assert.equal(answer.code, 400, path);
      assert.match(answer.body.message, /cannot unmarshal (string|number) into Go struct field /, path);
    }
  });
});

test('a field that is named twice is refused, warned of or ignored, as asked', async () => {
  await withApiServer(async ({ call }) => {
    const body = '{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}';
    const maps = '/api/v1/namespaces/default/configmaps';
    const strict = await call('POST', `${maps}?fieldValidation=Strict`, { body });
    assert.equal(strict.code, 400);
    assert.match(strict.body.message, /strict decoding error: duplicate field "data\.a"$/);
    const warned = await call('POST', `${maps}?dryRun=All`, { body });
    assert.equal(warned.code, 201);
    assert.equal(warned.headers.warning, '299 - "duplicate field \\"data.a\\""');
    assert.equal(warned.body.data.a, '2');
    const ignored = await call('POST', `${maps}?dryRun=All&fieldValidation=Ignore`, { body });
    assert.equal(ignored.headers.warning, undefined);
    const policy =
      '{"metadata":{"name":"p"},"spec":{"action":"DENY","rules":[{}],"action":"ALLOW","rules":[{}]}}';
    const path = '/apis/security.istio.io/v1/namespaces/default/authorizationpolicies?fieldValidation=Ignore';
    const refused = await call('POST', path, { body: policy });
    assert.equal(refused.code, 400);
    assert.match(refused.body.message, /duplicate field "spec\.action", duplicate field "spec\.rules"$/);
  });
});

test('quantities are stored in one form, and writing the same amount differently changes nothing', async () => {
  await withApiServer(async ({ call }) => {
    const resources = { limits: { cpu: '1000m', memory: '1024Mi' } };
    const made = await call('POST', PODS, { body: pod('sized', { resources }) });
    assert.deepEqual(made.body.spec.containers[0].resources.limits, { cpu: '1', memory: '1Gi' });
    const again = await call('PATCH', `${PODS}/sized`, {
      body: { spec: { containers: [{ name: 'main', resources: { limits: { cpu: 1 } } }] } },
      type: 'application/strategic-merge-patch+json',
    });
    assert.equal(again.code, 200);
    assert.equal(again.body.metadata.resourceVersion, made.body.metadata.resourceVersion);
  });
});
