// Writes a pod's status to the API when it differs from what was written last.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import type { PodStatus } from './pod-status.ts';

/** 404 and 409: the pod is gone, or another one has its name. */
export function isGone(error: unknown): boolean {
  return error instanceof MeshError && (error.details.status === 404 || error.details.status === 409);
}

export class StatusPublisher {
  readonly #client: KubeClient;
  #published = '';

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** The status as the API holds it now; undefined when nothing was written. @throws MeshError when the API cannot be asked. */
  async publish({ metadata }: Pod, status: PodStatus): Promise<PodStatus | undefined> {
    const text = JSON.stringify(status);
    if (text === this.#published) return undefined;
    const { name, namespace, uid } = metadata;
    try {
      const answer = await this.#client.patch(
        PODS,
        name,
        'merge',
        { metadata: { uid }, status },
        { subresource: 'status', ...(namespace === undefined ? {} : { namespace }) },
      );
      this.#published = text;
      return answer.status;
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }
}
