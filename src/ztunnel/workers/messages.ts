// What the owner's thread and the other threads say to one another (exchange.ts). The owner has the control plane, the
// authority, the CNI agent and the admin port; the others have connections, and ask it for what they lack.

import type { SpiffeId } from '#model/identity.ts';
import type { StoreUpdate } from '#model/store.ts';
import type { LogFilter } from '#telemetry/log-filter.ts';
import type { MetricsSnapshot } from '#telemetry/metrics.ts';
import type { SecretMaterial } from '#tls/workload-certificate.ts';
import type { DemandOutcome } from '#xds/demands.ts';
import type { CaptureShare } from '../capture/capture.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodConnections } from '../connections.ts';
import type { DrainResult } from '../drain.ts';
import type { PodInfo } from '../pods.ts';

/** What a thread is started with. */
export interface WorkerStart {
  readonly config: ZtunnelConfig;
  readonly logFilter: LogFilter;
  /** Bytes of all tunnels that nobody has read (hbone/http2/receive-budget.ts). */
  readonly unread: SharedArrayBuffer;
  /** Characters of log lines on their way to the owner (lines.ts). */
  readonly unwritten: SharedArrayBuffer;
}

export interface ToldToWorker {
  /** A response of the control plane as it came: each thread reads it for itself. */
  readonly delta: Uint8Array;
  /** State from elsewhere. */
  readonly state: StoreUpdate;
  readonly secret: { readonly identity: SpiffeId; readonly material: SecretMaterial | undefined };
  readonly pod: { readonly uid: string; readonly info: PodInfo; readonly share: CaptureShare };
  readonly logFilter: LogFilter;
  readonly close: null;
}

interface Question<Ask, Answer> {
  readonly ask: Ask;
  readonly answer: Answer;
}

export interface AskedOfWorker {
  /** Is everything done that was said so far? */
  readonly settle: Question<null, null>;
  /** How many connections were cut? */
  readonly removePod: Question<string, number>;
  readonly revocations: Question<Uint8Array, number>;
  readonly metrics: Question<null, MetricsSnapshot>;
  readonly connections: Question<null, ReadonlyMap<string, PodConnections>>;
  /** What its event loop waits for, one word each. */
  readonly resources: Question<null, readonly string[]>;
  readonly drain: Question<null, DrainResult>;
}

export interface ToldToOwner {
  readonly up: null;
  readonly lines: string;
}

export interface AskedOfOwner {
  /** The certificate is told before this is answered. */
  readonly secret: Question<SpiffeId, null>;
  readonly demand: Question<string, DemandOutcome>;
}
