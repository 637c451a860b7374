// What the API server asks of the kubelet: a container's log. The kubelet implements it; the server only delegates.

import type { Pod } from '#k8s/objects.ts';

export interface PodLogOptions {
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines?: number;
  readonly sinceSeconds?: number;
  readonly sinceTime?: string;
  readonly limitBytes?: number;
  /** Aborts when the reader goes away; a following source must end then. */
  readonly signal: AbortSignal;
}

export interface PodLogs {
  /** The log as text lines. Throws MeshError when there is none (yet): its sentence reaches the reader as 400. */
  open(pod: Pod, container: string, options: PodLogOptions): AsyncIterable<Uint8Array>;
}
