// Service account tokens bound to a pod (TokenRequest), renewed at 80 % of their life.

import type { Clock } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Pod } from '#k8s/objects.ts';

const DEFAULT_SECONDS = 3600;
/** The API's own lower bound. */
const MIN_SECONDS = 600;
const RENEW_AT = 0.8;

export interface TokenSpec {
  readonly audience?: string;
  readonly expirationSeconds?: number;
}

interface HeldToken {
  readonly token: string;
  readonly renewAtMs: number;
}

/** The tokens of one pod, by audience and wished life. */
export class PodTokens {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #held = new Map<string, HeldToken>();

  constructor(deps: { readonly client: KubeClient; readonly clock: Clock }) {
    this.#client = deps.client;
    this.#clock = deps.clock;
  }

  /** A token that is valid for some time yet. @throws MeshError of the API. */
  async get(pod: Pod, spec: TokenSpec): Promise<string> {
    const seconds = Math.max(MIN_SECONDS, spec.expirationSeconds ?? DEFAULT_SECONDS);
    const key = `${spec.audience ?? ''} ${seconds}`;
    const held = this.#held.get(key);
    if (held !== undefined && this.#clock.now() < held.renewAtMs) return held.token;

    const { namespace = 'default', name, uid = '' } = pod.metadata;
    const account = pod.spec.serviceAccountName ?? 'default';
    const answer = await this.#client.request<{ status: { token: string; expirationTimestamp?: string } }>(
      'POST',
      `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          audiences: spec.audience === undefined ? [] : [spec.audience],
          expirationSeconds: seconds,
          boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
        },
      },
    );
    const { token, expirationTimestamp } = answer.status;
    const now = this.#clock.now();
    const expiresAt =
      expirationTimestamp === undefined ? now + seconds * 1000 : Date.parse(expirationTimestamp);
    this.#held.set(key, { token, renewAtMs: now + (expiresAt - now) * RENEW_AT });
    return token;
  }

  /** When the next renewal is due; undefined without tokens. */
  nextRenewalMs(): number | undefined {
    let next: number | undefined;
    for (const { renewAtMs } of this.#held.values())
      if (next === undefined || renewAtMs < next) next = renewAtMs;
    return next;
  }
}
