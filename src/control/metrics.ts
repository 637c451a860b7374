// What the control plane counts (control-plane.md §0: port 15014). Names are Istio's where Istio has the number.

import { X509Certificate } from 'node:crypto';
import { createRegistry, type Registry } from '#telemetry/metrics.ts';
import type { XdsServerDeps } from '#xds/server.ts';
import type { Signer } from './ca/signer.ts';

export interface ControlMetrics {
  readonly registry: Registry;
  readonly xds: NonNullable<XdsServerDeps['observe']>;
  /** An answer to a certificate request; `reason` is undefined when it was signed. */
  readonly answered: (reason: string | undefined, tookSeconds: number) => void;
}

export interface GaugeSources {
  readonly clients: () => number;
  readonly addresses: () => number;
  readonly policies: () => number;
  /** Names that wait to be sent, all clients together. */
  readonly pendingNames: () => number;
  /** Kinds whose first list has not arrived. */
  readonly unsynced: () => number;
  /** What certificates are signed with. */
  readonly signer: () => Signer | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export function createMetrics(gauges: GaugeSources): ControlMetrics {
  const registry = createRegistry();
  registry.computed('pilot_xds', 'Connected xDS clients.', gauges.clients);
  registry.computed('culvert_control_addresses', 'Workloads and services published.', gauges.addresses);
  registry.computed('culvert_control_policies', 'L4 policies published.', gauges.policies);
  registry.computed(
    'culvert_control_pending_names',
    'Names of resources that wait to be sent, all clients together.',
    gauges.pendingNames,
  );
  registry.computed(
    'culvert_control_unsynced_kinds',
    'Kinds of objects whose first list has not arrived.',
    gauges.unsynced,
  );
  return {
    registry,
    xds: xdsMetrics(registry),
    answered: certificateMetrics(registry, gauges),
  };
}

const PUSH_BOUNDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

function xdsMetrics(registry: Registry): ControlMetrics['xds'] {
  const pushes = registry.counter('pilot_pushes', 'Pushes after debouncing.');
  const names = registry.counter('culvert_control_pushed_names', 'Names of resources in all pushes.');
  const gathered = registry.histogram(
    'pilot_debounce_time',
    'Seconds from the first change of a push to the push.',
    PUSH_BOUNDS,
  );
  const queued = registry.histogram(
    'pilot_proxy_queue_time',
    'Seconds from a push until the client had room for it.',
    PUSH_BOUNDS,
  );
  const converged = registry.histogram(
    'pilot_proxy_convergence_time',
    'Seconds from the first change of a push until a client accepted it, by type.',
    PUSH_BOUNDS,
  );
  const resources = registry.counter('pilot_xds_resources_sent', 'Resources sent to clients, by type.');
  const bytes = registry.counter('culvert_control_sent_bytes', 'Bytes of responses to clients, by type.');
  const rejects = registry.counter('pilot_xds_rejects', 'Responses that clients rejected, by type.');
  return {
    push: (count, gatheredSeconds) => {
      pushes.add({});
      names.add({}, count);
      gathered.observe({}, gatheredSeconds);
    },
    sent: (type, count, size, queuedSeconds) => {
      resources.add({ type }, count);
      bytes.add({ type }, size);
      if (queuedSeconds !== undefined) queued.observe({}, queuedSeconds);
    },
    converged: (type, seconds) => converged.observe({ type }, seconds),
    rejected: (type) => rejects.add({ type }),
  };
}

/** Istio's families, each refusal in the one that Istio would count it in, and one of ours by reason. */
function certificateMetrics(registry: Registry, { signer, now }: GaugeSources): ControlMetrics['answered'] {
  const requests = registry.counter('citadel_server_csr_count', 'Certificate requests received.');
  const signed = registry.counter('citadel_server_success_cert_issuance_count', 'Certificates signed.');
  const unauthenticated = registry.counter(
    'citadel_server_authentication_failure_count',
    'Certificate requests of callers that could not prove who they are, or may not have the name.',
  );
  const failures = registry.counter(
    'citadel_server_csr_sign_err_count',
    'Certificate requests that could not be signed, by error.',
  );
  const refused = registry.counter(
    'citadel_server_refused_count',
    'Certificate requests refused, by reason.',
  );
  const seconds = registry.histogram(
    'culvert_ca_answer_seconds',
    'Time from a certificate request to its answer, token review included.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  const endOf = (pem: string | undefined): number | undefined =>
    pem === undefined ? undefined : Math.floor(new X509Certificate(pem).validToDate.getTime() / 1000);
  const rootEnd = (): number | undefined => endOf(signer()?.rootsPem);
  const chainEnd = (): number | undefined => endOf(signer()?.chainPem[0]);
  const left = (end: number | undefined): number | undefined =>
    end === undefined ? undefined : Math.floor(end - now() / 1000);
  registry.computed(
    'citadel_server_root_cert_expiry_timestamp',
    'When the first root ends, in seconds since the epoch.',
    rootEnd,
  );
  registry.computed(
    'citadel_server_root_cert_expiry_seconds',
    'Seconds until the first root ends; negative when it has.',
    () => left(rootEnd()),
  );
  registry.computed(
    'citadel_server_cert_chain_expiry_timestamp',
    'When the signing certificate of a plugged-in authority ends, in seconds since the epoch.',
    chainEnd,
  );
  registry.computed(
    'citadel_server_cert_chain_expiry_seconds',
    'Seconds until the signing certificate of a plugged-in authority ends; negative when it has.',
    () => left(chainEnd()),
  );
  return (reason, tookSeconds) => {
    requests.add({});
    seconds.observe({ result: reason === undefined ? 'signed' : 'refused' }, tookSeconds);
    if (reason === undefined) return signed.add({});
    refused.add({ reason });
    const error = SIGN_ERRORS.get(reason);
    if (error === undefined) unauthenticated.add({});
    else failures.add({ error });
  };
}

/** Reasons that are not about who calls, in Istio's words. */
const SIGN_ERRORS: ReadonlyMap<string, string> = new Map([
  ['bad-csr', 'CSR_ERROR'],
  ['bad-csr-signature', 'CSR_ERROR'],
  ['csr-too-large', 'CSR_ERROR'],
  ['csr-name-mismatch', 'CSR_ERROR'],
  ['weak-key', 'CSR_ERROR'],
  ['ttl-too-long', 'TTL_ERROR'],
  ['signing-failed', 'CERT_GEN_ERROR'],
  ['internal', 'CERT_GEN_ERROR'],
]);
