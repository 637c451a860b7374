// Probes and lifecycle hooks of real containers: what they wait for, what they end, and in which order.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { type Container, EVENTS, type KubeObject, PODS, type Pod } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { openPki } from '#local/apiserver/pki.ts';
import { until } from '../lib/until.ts';
import { startTestMachine, type TestMachine } from './lib/test-machine.ts';

let cluster: TestMachine;
let client: KubeClient;

before(async () => {
  cluster = await startTestMachine();
  client = createRestClient(kubeconfigEndpoint(cluster.kubeconfig));
});

after(async () => {
  client?.close();
  await cluster?.close();
});

async function startPod(name: string, container: Omit<Container, 'name' | 'image'>): Promise<void> {
  await client.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: {
      terminationGracePeriodSeconds: 20,
      containers: [{ name: 'main', image: 'local/shell', ...container }],
    },
  } satisfies Pod);
}

const podWith = (name: string, what: string, condition: (found: Pod) => boolean): Promise<Pod> =>
  until(`${name}: ${what}`, async () => {
    const found = await client.get<Pod>(PODS, name, 'default');
    return condition(found) ? found : undefined;
  });

const ready = (name: string): Promise<Pod> =>
  podWith(name, 'ready', ({ status }) => status?.containerStatuses?.[0]?.ready === true);
const restarted = (name: string): Promise<Pod> =>
  podWith(name, 'restarted', ({ status }) => (status?.containerStatuses?.[0]?.restartCount ?? 0) > 0);

const eventOf = (name: string, reason: string): Promise<string> =>
  until(`event ${reason} of ${name}`, async () => {
    type Event = KubeObject & { reason: string; message: string; involvedObject: { name: string } };
    const { items } = await client.list<KubeObject>(EVENTS);
    return (items as Event[]).find((event) => event.involvedObject.name === name && event.reason === reason)
      ?.message;
  });

const shell = (script: string): string[] => ['/bin/sh', '-c', script];

test('preStop runs to its end before TERM', async () => {
  await startPod('goodbye', {
    command: shell('trap "cat /tmp/said; echo term; exit 0" TERM; echo up; while :; do sleep 0.1; done'),
    lifecycle: { preStop: { exec: { command: shell('sleep 1; echo pre > /tmp/said') } } },
  });
  await ready('goodbye');
  let text = '';
  const log = (async () => {
    for await (const part of client.stream('/api/v1/namespaces/default/pods/goodbye/log?follow=true'))
      text += part;
  })();
  await until('the first line', async () => (text.includes('up\n') ? true : undefined));
  await client.delete(PODS, 'goodbye', { namespace: 'default' });
  await log;
  // The shell's own remark on its child, which got TERM as well.
  assert.equal(text.replace('Terminated\n', ''), 'up\npre\nterm\n');
});

test('a preStop hook that fails is told and does not keep the pod', async () => {
  await startPod('stubborn', {
    command: shell('trap "exit 0" TERM; while :; do sleep 0.1; done'),
    lifecycle: { preStop: { exec: { command: shell('echo no >&2; exit 3') } } },
  });
  await ready('stubborn');
  await client.delete(PODS, 'stubborn', { namespace: 'default' });
  assert.match(await eventOf('stubborn', 'FailedPreStopHook'), /exited with 3: no/);
  await until('the end of the pod', async () => {
    const { items } = await client.list<Pod>(PODS);
    return items.some(({ metadata }) => metadata.name === 'stubborn') ? undefined : true;
  });
});

test('probes begin after postStart; a container whose hook fails is ended', async () => {
  await startPod('greeting', {
    command: shell('sleep 100000'),
    lifecycle: { postStart: { exec: { command: shell('echo here > /tmp/hello') } } },
    // One failure would be enough to end it.
    livenessProbe: { exec: { command: shell('test -f hello') }, failureThreshold: 1, periodSeconds: 1 },
    workingDir: '/tmp',
  });
  assert.equal((await ready('greeting')).status?.containerStatuses?.[0]?.restartCount, 0);
  await startPod('grumpy', {
    command: shell('trap "exit 0" TERM; while :; do sleep 0.1; done'),
    lifecycle: { postStart: { exec: { command: ['false'] } } },
  });
  await eventOf('grumpy', 'FailedPostStartHook');
  await restarted('grumpy');
});

test('liveness waits for the startup probe', async () => {
  const check = { exec: { command: shell('test -f /tmp/up') }, periodSeconds: 1 };
  await startPod('slow', {
    command: shell('sleep 3; : > /tmp/up; sleep 100000'),
    startupProbe: { ...check, failureThreshold: 60 },
    livenessProbe: { ...check, failureThreshold: 1 },
  });
  assert.equal((await ready('slow')).status?.containerStatuses?.[0]?.restartCount, 0);
});

test('a container that fails its liveness probe is restarted, with the grace of the probe', async () => {
  await startPod('dead', {
    command: shell('trap "" TERM; while :; do sleep 0.1; done'),
    livenessProbe: {
      tcpSocket: { port: 9 },
      initialDelaySeconds: 2, // the trap must be set
      failureThreshold: 1,
      periodSeconds: 1,
      terminationGracePeriodSeconds: 1,
    },
  });
  const { status } = await restarted('dead');
  assert.equal(status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode, 137);
  assert.match(await eventOf('dead', 'Killing'), /failed liveness probe, will be restarted/);
});

const answering = (scheme: 'http' | 'https'): string => `
  const { createServer } = require('node:${scheme}');
  createServer({ key: process.env.KEY, cert: process.env.CERT }, ({ headers }, answer) => {
    const right = headers['x-asks'] === 'yes' && headers.host === 'other.example' && /^kube-probe/.test(headers['user-agent']);
    answer.writeHead(right ? 204 : 500).end();
  }).listen(8443);`;

test('HTTP probes send their headers, and HTTPS ones ask for no valid certificate', async () => {
  const { serverCertPem, serverKeyPem } = await openPki(
    { clock: systemClock },
    { folder: join(cluster.folder, 'pki'), dnsNames: ['elsewhere.example'], ips: [] },
  );
  const httpHeaders = [
    { name: 'X-Asks', value: 'yes' },
    { name: 'Host', value: 'other.example' },
  ];
  for (const scheme of ['http', 'https'] as const)
    await startPod(scheme, {
      command: [process.execPath, '-e', answering(scheme)],
      env: [
        { name: 'KEY', value: serverKeyPem },
        { name: 'CERT', value: serverCertPem },
      ],
      ports: [{ name: 'web', containerPort: 8443 }],
      readinessProbe: {
        httpGet: { port: 'web', scheme: scheme === 'http' ? 'HTTP' : 'HTTPS', httpHeaders },
        periodSeconds: 1,
        timeoutSeconds: 5,
      },
    });
  await ready('http');
  await ready('https');
});
