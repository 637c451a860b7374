// The controllers of a Kubernetes cluster, as far as the mesh and ordinary workloads need them. Each stands in its own file
// and speaks to the API server only.

import { type Clock, type Random, systemClock } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Logger } from '#telemetry/log.ts';
import { createClusterRoleAggregation } from './cluster-role-aggregation.ts';
import { type ControllerContext, createInformerSet } from './context.ts';
import { createDaemonSetController } from './daemon-sets.ts';
import { createDeploymentController } from './deployments.ts';
import { createDisruptionController } from './disruption.ts';
import { createEndpointMirror } from './endpoint-mirror.ts';
import { createEndpointSliceController } from './endpoint-slices.ts';
import { createGarbageCollector } from './garbage.ts';
import { createNamespaceController } from './namespaces.ts';
import { createNodeLifecycleController, NODE_GRACE_MS } from './node-lifecycle.ts';
import { createVolumeController, type RemoveVolumeDirectory } from './persistent-volumes.ts';
import { createPodGarbageCollector } from './pod-gc.ts';
import { createReplicaSetController } from './replica-sets.ts';
import { createScheduler } from './scheduler.ts';
import { createStatefulSetController } from './stateful-sets.ts';
import { createTaintEviction } from './taint-eviction.ts';

export interface ControllersDeps {
  readonly client: KubeClient;
  /** Binds pods with the scheduler's own rights; `client` without it. */
  readonly schedulerClient?: KubeClient;
  readonly log: Logger;
  /** The API server's root certificate, published as ConfigMap kube-root-ca.crt in every namespace. */
  readonly caPem: string;
  readonly clock?: Clock;
  readonly random?: Random;
  /** How long a node may be silent before it is called unreachable. */
  readonly nodeGraceMs?: number;
  readonly removeVolumeDirectory: RemoveVolumeDirectory;
}

export interface Controllers {
  /** Requests under way end by themselves; nothing new is begun. */
  close(): void;
}

/** Resolves when every controller knows the whole cluster and works. */
export async function startControllers(deps: ControllersDeps): Promise<Controllers> {
  const { client, log } = deps;
  const informers = createInformerSet({ client, log });
  const context: ControllerContext = {
    client,
    log,
    informers,
    clock: deps.clock ?? systemClock,
    random: deps.random ?? Math.random,
  };
  const queues = [
    createNamespaceController(context, { caPem: deps.caPem }),
    createDeploymentController(context),
    createReplicaSetController(context),
    createDaemonSetController(context),
    createStatefulSetController(context),
    createDisruptionController(context),
    createScheduler({ ...context, client: deps.schedulerClient ?? client }),
    createNodeLifecycleController(context, deps.nodeGraceMs ?? NODE_GRACE_MS),
    createTaintEviction(context),
    createPodGarbageCollector(context),
    createVolumeController(context, deps.removeVolumeDirectory),
    createEndpointSliceController(context),
    createEndpointMirror(context),
    createGarbageCollector(context),
    createClusterRoleAggregation(context),
  ];
  await informers.synced();
  for (const queue of queues) queue.start();
  return {
    close() {
      for (const queue of queues) queue.close();
      informers.close();
    },
  };
}
