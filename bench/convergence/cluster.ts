// The objects of the convergence benchmark, and the writes that its events are made of.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import {
  AUTHORIZATION_POLICIES,
  NAMESPACES,
  PODS,
  type Pod,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '#k8s/objects.ts';

export const NAMESPACE = 'bench';
const SYSTEM = 'istio-system';
const PODS_PER_SERVICE = 20;
/** Writes under way at once while the cluster is filled. */
const WRITERS = 16;
export const POLICY = 'bench-policy';

export const workloadName = (pod: string): string => `Kubernetes//Pod/${NAMESPACE}/${pod}`;
export const policyName = `${NAMESPACE}/${POLICY}`;

export class Cluster {
  readonly #client: KubeClient;
  #nextPod = 0;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  async prepare(): Promise<void> {
    await this.#ensure(() =>
      this.#client.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SYSTEM } }),
    );
    await this.#ensure(() =>
      this.#client.create(NAMESPACES, {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: NAMESPACE, labels: { 'istio.io/dataplane-mode': 'ambient' } },
      }),
    );
    await this.#ensure(() =>
      this.#client.create(
        SERVICE_ACCOUNTS,
        { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'ztunnel', namespace: SYSTEM } },
        SYSTEM,
      ),
    );
    await this.setPolicy('first');
  }

  /** Ready pods, twenty to a service. */
  async fill(count: number): Promise<void> {
    await inParallel(Math.ceil(count / PODS_PER_SERVICE), (index) => this.#createService(index));
    await inParallel(count, async () => {
      const name = await this.createPod();
      await this.bringUp(name);
    });
  }

  /** Scheduled, without an address: nothing that a proxy would hear of. */
  async createPod(): Promise<string> {
    const index = this.#nextPod++;
    const name = `pod-${index}`;
    const pod: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: NAMESPACE,
        labels: { app: `app-${Math.floor(index / PODS_PER_SERVICE)}`, 'pod-template-hash': '6d4cf56db6' },
        annotations: { 'ambient.istio.io/redirection': 'enabled' },
      },
      spec: {
        nodeName: `node-${index % 10}`,
        containers: [{ name: 'app', image: 'local/app', ports: [{ containerPort: 8080 }] }],
      },
    };
    await this.#client.create(PODS, pod, NAMESPACE);
    return name;
  }

  /** The write that makes a workload of it. */
  async bringUp(name: string): Promise<void> {
    const index = Number(name.slice('pod-'.length));
    const ip = `10.${(index >> 16) + 64}.${(index >> 8) & 255}.${index & 255}`;
    const status = {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: 'Ready', status: 'True' }],
    };
    await this.#client.patch(
      PODS,
      name,
      'strategic',
      { status },
      { namespace: NAMESPACE, subresource: 'status' },
    );
  }

  async takeDown(name: string): Promise<void> {
    await this.#client.delete(PODS, name, { namespace: NAMESPACE, gracePeriodSeconds: 0 });
  }

  async setPolicy(account: string): Promise<void> {
    const principal = `cluster.local/ns/${NAMESPACE}/sa/${account}`;
    const policy = {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: POLICY, namespace: NAMESPACE },
      spec: { action: 'ALLOW', rules: [{ from: [{ source: { principals: [principal] } }] }] },
    };
    await this.#client.patch(AUTHORIZATION_POLICIES, POLICY, 'apply', policy, {
      namespace: NAMESPACE,
      fieldManager: 'bench',
    });
  }

  async tokens(count: number): Promise<string[]> {
    const tokens: string[] = [];
    await inParallel(count, async () => {
      const answer = await this.#client.request<{ status: { token: string } }>(
        'POST',
        `/api/v1/namespaces/${SYSTEM}/serviceaccounts/ztunnel/token`,
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: { audiences: ['istio-ca'], expirationSeconds: 3600 },
        },
      );
      tokens.push(answer.status.token);
    });
    return tokens;
  }

  #createService(index: number): Promise<unknown> {
    const service = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `app-${index}`, namespace: NAMESPACE },
      spec: { selector: { app: `app-${index}` }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
    };
    return this.#client.create(SERVICES, service, NAMESPACE);
  }

  async #ensure(create: () => Promise<unknown>): Promise<void> {
    try {
      await create();
    } catch (error) {
      if (!(error instanceof MeshError) || error.details.status !== 409) throw error;
    }
  }
}

/** Numbered from 0. */
export async function inParallel(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(WRITERS, count) }, worker));
}
