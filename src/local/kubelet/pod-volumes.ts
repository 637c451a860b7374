// The volumes of one pod over its life: made before the first container starts, written again when a source changes or a
// token has to be renewed.

import type { Clock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Pod } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { nodeAddresses } from '#local/machine/plan.ts';
import { nodeLabels } from './node-status.ts';
import type { ObjectSource } from './object-source.ts';
import { podDirOf, type Sandbox } from './sandbox.ts';
import { PodTokens } from './tokens.ts';
import { syncVolumes } from './volumes.ts';

export interface PodVolumesDeps {
  readonly node: EmulatedNode;
  readonly client: KubeClient;
  readonly source: ObjectSource;
  readonly clock: Clock;
  readonly allocatable: () => Readonly<Record<string, string>>;
}

export type VolumeSync =
  | { readonly kind: 'current' }
  /** Nothing to start with yet. */
  | { readonly kind: 'missing'; readonly message: string }
  /** What was written before stays; tried again at the next look. */
  | { readonly kind: 'stale'; readonly message: string };

export class PodVolumes {
  readonly #deps: PodVolumesDeps;
  readonly #tokens: PodTokens;
  #dirty = true;
  #paths: ReadonlyMap<string, string> | undefined;

  constructor(deps: PodVolumesDeps) {
    this.#deps = deps;
    this.#tokens = new PodTokens(deps);
  }

  /** Volume name → path of the node; empty before the first success. */
  get paths(): ReadonlyMap<string, string> {
    return this.#paths ?? new Map();
  }

  /** A source changed. */
  touch(): void {
    this.#dirty = true;
  }

  /** Until the next token has to be renewed; infinite without tokens. */
  renewalInMs(): number {
    const next = this.#tokens.nextRenewalMs();
    return next === undefined ? Number.POSITIVE_INFINITY : next - this.#deps.clock.now();
  }

  async syncIfDue(pod: Pod, sandbox: Sandbox): Promise<VolumeSync> {
    if (!this.#dirty && this.#paths !== undefined && this.renewalInMs() > 0) return { kind: 'current' };
    const { node, source } = this.#deps;
    // Cleared first: a change during the work counts for the next look.
    this.#dirty = false;
    let message: string;
    try {
      const result = await syncVolumes(pod, {
        nodeRoot: node.rootPath,
        podDir: podDirOf(pod.metadata.uid ?? ''),
        facts: {
          podIps: sandbox.podIps,
          hostIps: nodeAddresses(node.plan),
          nodeName: node.plan.name,
          allocatable: this.#deps.allocatable(),
        },
        node: { metadata: { name: node.plan.name, labels: nodeLabels(node.plan) } },
        source,
        tokens: this.#tokens,
      });
      if (result.kind === 'ready') {
        this.#paths = result.paths;
        return { kind: 'current' };
      }
      message = result.message;
    } catch (error) {
      message = reasonOf(error);
    }
    this.#dirty = true;
    return { kind: this.#paths === undefined ? 'missing' : 'stale', message };
  }
}
