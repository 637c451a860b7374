// The certificates of a thread that is not the owner: told by it, asked for when one is missing or has expired. Its TLS context
// is made when it is first used: a thread may never serve the pod.

import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { TlsPolicy } from '#tls/options.ts';
import type { SecretManager, WorkloadSecret } from '#tls/secret.ts';
import { type SecretMaterial, secretOf } from '#tls/workload-certificate.ts';

interface Held {
  readonly material: SecretMaterial;
  secret: WorkloadSecret | undefined;
}

export class WorkerSecrets implements Pick<SecretManager, 'get'> {
  readonly #tls: TlsPolicy;
  readonly #clock: Clock;
  readonly #ask: (identity: SpiffeId) => Promise<unknown>;
  readonly #held = new Map<SpiffeId, Held>();

  /** `ask` resolves when the owner has told what it has, or rejects with why there is nothing. */
  constructor(tls: TlsPolicy, clock: Clock, ask: (identity: SpiffeId) => Promise<unknown>) {
    this.#tls = tls;
    this.#clock = clock;
    this.#ask = ask;
  }

  /** `undefined`: no longer needed. */
  told(identity: SpiffeId, material: SecretMaterial | undefined): void {
    if (material === undefined) this.#held.delete(identity);
    else this.#held.set(identity, { material, secret: undefined });
  }

  async get(identity: SpiffeId): Promise<WorkloadSecret> {
    const known = this.#valid(identity);
    if (known !== undefined) return known;
    await this.#ask(identity);
    const told = this.#valid(identity);
    if (told !== undefined) return told;
    throw new MeshError('IDENTITY_UNAVAILABLE', `no certificate for ${identity}: it is no longer needed`);
  }

  #valid(identity: SpiffeId): WorkloadSecret | undefined {
    const held = this.#held.get(identity);
    if (held === undefined) return undefined;
    held.secret ??= secretOf(held.material, this.#tls);
    return held.secret.notAfter.getTime() > this.#clock.now() ? held.secret : undefined;
  }
}
