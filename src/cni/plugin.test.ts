import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AgentAnswer, runPlugin } from './plugin.ts';
import { parsePluginEvent } from './plugin-event.ts';

const CONFIG = {
  cniVersion: '1.0.0',
  name: 'culvert',
  type: 'culvert-cni',
  cni_agent_run_dir: '/run/agent',
  pod_namespace: 'istio-system',
  exclude_namespaces: ['kube-system'],
  prevResult: {
    cniVersion: '0.4.0',
    ips: [{ address: '10.244.1.5/32', interface: 1, gateway: '172.31.0.11' }, { address: 'fd00::5/64' }],
    dns: {},
  },
};

const envFor = (command: string, namespace = 'shop', name = 'web-1'): Record<string, string> => ({
  CNI_COMMAND: command,
  CNI_NETNS: '/run/netns/cni-u1',
  CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u1`,
});

const OK: AgentAnswer = { kind: 'answered', status: 200, body: '{"enrolled":true}' };

function call(
  env: Record<string, string | undefined>,
  answer: AgentAnswer | 'must not be asked' = OK,
  stdin = JSON.stringify(CONFIG),
): Promise<{
  exitCode: number;
  output: Record<string, unknown> | undefined;
  posts: [string, string][];
  path: string | undefined;
}> {
  const posts: [string, string][] = [];
  let asked: string | undefined;
  return runPlugin({
    env,
    stdin,
    post: async (path, question, body) => {
      asked = question;
      if (answer === 'must not be asked') assert.fail('the agent was asked');
      posts.push([path, body]);
      return answer;
    },
  }).then(({ stdout, exitCode }) => ({
    exitCode,
    output: stdout === '' ? undefined : (JSON.parse(stdout) as Record<string, unknown>),
    posts,
    path: asked,
  }));
}

test('ADD posts the field’s event and passes the previous result on in the configured version', async () => {
  const { exitCode, output, posts } = await call(envFor('ADD'));
  assert.equal(exitCode, 0);
  assert.deepEqual(output, { ...CONFIG.prevResult, cniVersion: '1.0.0' });
  assert.equal(posts[0]![0], '/run/agent/pluginevent.sock');
  assert.deepEqual(JSON.parse(posts[0]![1]), {
    Netns: '/run/netns/cni-u1',
    PodName: 'web-1',
    PodNamespace: 'shop',
    PodUID: 'u1',
    IPs: [
      // 255.255.255.255 and ffff:ffff:ffff:ffff:: as base64.
      { Interface: 1, Address: { IP: '10.244.1.5', Mask: '/////w==' }, Gateway: '172.31.0.11' },
      { Interface: null, Address: { IP: 'fd00::5', Mask: '//////////8AAAAAAAAAAA==' }, Gateway: '' },
    ],
  });
  assert.deepEqual(parsePluginEvent(posts[0]![1]), {
    netns: '/run/netns/cni-u1',
    podName: 'web-1',
    podNamespace: 'shop',
    podUid: 'u1',
    ips: ['10.244.1.5', 'fd00::5'],
  });
});

test('ADD fails closed: refused, unreachable', async () => {
  const refused = await call(envFor('ADD'), { kind: 'answered', status: 500, body: 'no ztunnel connection' });
  assert.equal(refused.exitCode, 1);
  assert.deepEqual(refused.output, {
    cniVersion: '1.0.0',
    code: 100,
    msg: 'culvert-cni: pod shop/web-1 could not join the mesh: no ztunnel connection',
  });
  const away = await call(envFor('ADD'), { kind: 'unreachable', reason: 'ENOENT' });
  assert.equal(away.exitCode, 1);
  assert.equal(away.output?.code, 11);
});

test('the agent itself, ztunnel, excluded namespaces and what is no pod pass without the agent', async () => {
  for (const [namespace, name] of [
    ['istio-system', 'istio-cni-node-x7k'],
    ['istio-system', 'ztunnel-9d'],
    ['kube-system', 'coredns-1'],
  ] as const)
    assert.equal((await call(envFor('ADD', namespace, name), 'must not be asked')).exitCode, 0, name);
  assert.equal((await call({ ...envFor('ADD'), CNI_ARGS: '' }, 'must not be asked')).exitCode, 0);
  // Both are needed: name and namespace.
  assert.equal((await call(envFor('ADD', 'shop', 'istio-cni-node-x'))).posts.length, 1);
  assert.equal((await call(envFor('ADD', 'istio-system', 'istiod-1'))).posts.length, 1);
});

test('DEL and GC succeed without a word, VERSION lists what is spoken', async () => {
  for (const command of ['DEL', 'GC']) {
    const { exitCode, output } = await call(envFor(command), 'must not be asked');
    assert.deepEqual([exitCode, output], [0, undefined]);
  }
  assert.deepEqual((await call(envFor('VERSION'), 'must not be asked', '')).output, {
    cniVersion: '1.1.0',
    supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
});

test('CHECK asks whether the pod is as ADD left it', async () => {
  const good = await call(envFor('CHECK'), { kind: 'answered', status: 200, body: '' });
  assert.deepEqual([good.exitCode, good.output, good.path], [0, undefined, '/cmdcheck']);
  assert.equal(parsePluginEvent(good.posts[0]![1]).podUid, 'u1');
  const bad = await call(envFor('CHECK'), {
    kind: 'answered',
    status: 500,
    body: 'pod shop/web-1 belongs to the mesh, but its traffic is not redirected',
  });
  assert.deepEqual([bad.exitCode, bad.output?.code], [1, 100]);
  assert.match(String(bad.output?.msg), /its traffic is not redirected$/);
  assert.equal((await call(envFor('CHECK'), { kind: 'unreachable', reason: 'ENOENT' })).output?.code, 11);
  assert.equal((await call(envFor('CHECK', 'kube-system', 'coredns-1'), 'must not be asked')).exitCode, 0);
});

test('STATUS says whether ADD could succeed: code 50 when not', async () => {
  const env = { CNI_COMMAND: 'STATUS' };
  const good = await call(env, { kind: 'answered', status: 200, body: '' });
  assert.deepEqual([good.exitCode, good.output, good.path], [0, undefined, '/cmdstatus']);
  const early = await call(env, { kind: 'answered', status: 503, body: 'not yet' });
  assert.deepEqual([early.exitCode, early.output?.code], [1, 50]);
  assert.equal((await call(env, { kind: 'unreachable', reason: 'ENOENT' })).output?.code, 50);
});

test('without a previous result an empty one is printed', async () => {
  const { prevResult: _none, ...config } = CONFIG;
  const { output } = await call(envFor('ADD'), OK, JSON.stringify(config));
  assert.deepEqual(output, { cniVersion: '1.0.0', interfaces: [], ips: [] });
});

test('the protocol’s error codes', async () => {
  const code = async (env: Record<string, string | undefined>, stdin: string): Promise<unknown> =>
    (await call(env, 'must not be asked', stdin)).output?.code;
  assert.equal(await code(envFor('ADD'), JSON.stringify({ ...CONFIG, cniVersion: '0.2.0' })), 1);
  assert.equal(await code(envFor('NONSENSE'), JSON.stringify(CONFIG)), 4);
  assert.equal(await code({ ...envFor('ADD'), CNI_NETNS: undefined }, JSON.stringify(CONFIG)), 4);
  assert.equal(await code(envFor('ADD'), '{'), 6);
  assert.equal(await code(envFor('ADD'), 'null'), 6);
});

test('property: whatever comes in, the outcome is the protocol’s', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('ADD', 'DEL', 'CHECK', 'VERSION', 'GC', 'STATUS', ''),
      fc.oneof(fc.string(), fc.json()),
      fc.string(),
      async (command, stdin, args) => {
        const { stdout, exitCode } = await runPlugin({
          env: { CNI_COMMAND: command, CNI_ARGS: args, CNI_NETNS: '/n' },
          stdin,
          post: async () => ({ kind: 'unreachable', reason: 'test' }),
        });
        if (exitCode === 1) assert.equal(typeof (JSON.parse(stdout) as { code: unknown }).code, 'number');
        else if (stdout !== '')
          assert.equal(typeof (JSON.parse(stdout) as { cniVersion: unknown }).cniVersion, 'string');
      },
    ),
  );
});
