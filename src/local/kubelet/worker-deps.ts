// What a pod worker is given by its kubelet.

import type { Clock } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import type { IpPool } from '#local/net/ip-pool.ts';
import type { PodPolicies } from '#local/net/network-policies.ts';
import type { Logger } from '#telemetry/log.ts';
import type { EventSink } from './events.ts';
import type { ImageOptions } from './images.ts';
import type { LogStore } from './logs.ts';
import type { ObjectSource } from './object-source.ts';

export interface WorkerDeps {
  readonly node: EmulatedNode;
  /** Descriptor of the node's network namespace, for probes. */
  readonly netnsFd: number;
  readonly client: KubeClient;
  readonly source: ObjectSource;
  readonly logs: LogStore;
  readonly pool: IpPool;
  readonly policies: PodPolicies;
  readonly events: EventSink;
  readonly images: ImageOptions;
  readonly keepPaths: readonly string[];
  /** What the node offers now. */
  readonly allocatable: () => Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly log: Logger;
  /** The worker is done with the pod. */
  readonly onGone: () => void;
}
