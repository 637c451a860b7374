// What every feature script has, and the few things they share: requests between pods, access-log records, admin answers.

import assert from 'node:assert/strict';
import { PODS, type Pod } from '#k8s/objects.ts';
import { type AccessRecord, parseAccessLine } from '../../../src/cli/screen/access-line.ts';
import { type Mesh, until } from '../harness.ts';

/** Shows one feature of docs/FEATURES.md at work: says what it does and sees, throws when it is not so. */
export interface Evidence {
  readonly id: string;
  readonly title: string;
  show(mesh: Mesh, say: (text: string) => void, agent?: AgentTraits): Promise<void>;
}

/** What not every CNI agent does; our own, which is meant when nothing is said, does. */
export interface AgentTraits {
  /** Connections that a pod has open when its label comes or goes are not reset (docs/DIFFERENCES.md). */
  readonly keepsConnections: boolean;
}

export async function podNamed(mesh: Mesh, namespace: string, app: string): Promise<Pod> {
  const { items } = await mesh.client.list(PODS, { namespace, labelSelector: `app=${app}` });
  const [pod] = items.filter((item) => item.metadata.deletionTimestamp === undefined);
  assert.ok(pod, `no pod with app=${app} in ${namespace}`);
  return pod;
}

export async function logOf(mesh: Mesh, namespace: string, pod: string): Promise<string> {
  let text = '';
  for await (const piece of mesh.client.stream(`/api/v1/namespaces/${namespace}/pods/${pod}/log`))
    text += piece;
  return text;
}

/** The node's ztunnel; in a roll-out the one that stays. */
export async function ztunnelOn(mesh: Mesh, node: string): Promise<Pod> {
  const { items } = await mesh.client.list(PODS, { namespace: 'istio-system', labelSelector: 'app=ztunnel' });
  const pod = items.find(
    ({ spec, metadata }) => spec.nodeName === node && metadata.deletionTimestamp === undefined,
  );
  assert.ok(pod, `no ztunnel on ${node}`);
  return pod;
}

/** Every access-log record of one node's ztunnel so far. */
export async function accessRecords(mesh: Mesh, node: string): Promise<AccessRecord[]> {
  const pod = await ztunnelOn(mesh, node);
  const text = await logOf(mesh, 'istio-system', pod.metadata.name);
  return text.split('\n').flatMap((line) => parseAccessLine(line) ?? []);
}

/** Waits for a record, logged after `since` (an RFC 3339 time), that the predicate accepts. */
export async function waitForRecord(
  mesh: Mesh,
  node: string,
  since: string,
  what: string,
  accept: (fields: ReadonlyMap<string, string>) => boolean,
  limitMs?: number,
): Promise<AccessRecord> {
  let found: AccessRecord | undefined;
  await until(
    async () => {
      found = (await accessRecords(mesh, node)).find(
        (record) => record.time >= since && accept(record.fields),
      );
      return found !== undefined;
    },
    `${what} in the access log of ${node}`,
    limitMs,
  );
  return found as AccessRecord;
}

export const startsWith = (text: string | undefined, prefix: string): boolean =>
  text?.startsWith(prefix) ?? false;

/** The body of an HTTP answer, asked for from inside a node's network namespace. */
export function fetchInNode(mesh: Mesh, node: string, url: string): Promise<string> {
  return mesh.inNode(
    node,
    process.execPath,
    '-e',
    `process.stdout.write(await (await fetch(${JSON.stringify(url)})).text())`,
  );
}

/** The same asked by the node's ztunnel itself: its admin port listens on its own loopback only. */
export async function fetchInZtunnel(mesh: Mesh, node: string, url: string): Promise<string> {
  const { name } = (await ztunnelOn(mesh, node)).metadata;
  const script = `process.stdout.write(await (await fetch(${JSON.stringify(url)})).text())`;
  return mesh.kubectl('exec', '-n', 'istio-system', name, '--', process.execPath, '-e', script);
}

export interface ScriptPod {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  /** JavaScript run by Node as the pod's only container. */
  readonly script: string;
  readonly restartPolicy?: 'Always' | 'Never';
}

export function scriptPod({ name, namespace, node, script, restartPolicy = 'Never' }: ScriptPod): string {
  return `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name} } }
spec:
  nodeSelector: { kubernetes.io/hostname: ${node} }
  restartPolicy: ${restartPolicy}
  terminationGracePeriodSeconds: 1
  containers:
    - name: script
      image: local/shell
      command: ${JSON.stringify([process.execPath, '-e', script])}
`;
}

/** Runs a script as a pod to its end and returns what it printed. The pod is removed afterwards. */
export async function runInPod(mesh: Mesh, pod: ScriptPod): Promise<string> {
  await mesh.apply(scriptPod(pod));
  try {
    await until(async () => {
      const { status } = await mesh.client.get(PODS, pod.name, pod.namespace);
      return status?.phase === 'Succeeded' || status?.phase === 'Failed';
    }, `pod ${pod.name} to end`);
    return await logOf(mesh, pod.namespace, pod.name);
  } finally {
    await mesh.client.delete(PODS, pod.name, { namespace: pod.namespace, gracePeriodSeconds: 0 });
  }
}

/** Prints `status BODY` or `error CODE` for one GET. */
export const getScript = (url: string): string =>
  `require('node:http').get(${JSON.stringify(url)},{agent:false,timeout:25000},r=>{let b='';r.on('data',c=>b+=c);r.on('end',()=>console.log(r.statusCode+' '+b.trim()));r.on('error',e=>console.log('error '+e.code))}).on('timeout',function(){this.destroy(new Error('timeout'))}).on('error',e=>console.log('error '+(e.code??e.message)))`;

export const now = (): string => new Date().toISOString();
