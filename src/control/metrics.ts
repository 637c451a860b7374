// What the control plane counts (control-plane.md §0: port 15014). Names are Istio's where Istio has the number.

import { createRegistry, type Family, type Registry } from '#telemetry/metrics.ts';

export interface ControlMetrics {
  readonly registry: Registry;
  /** Pushes after debouncing. */
  readonly pushes: Family;
  /** Label `type`. */
  readonly sent: Family;
  /** Label `type`. */
  readonly rejects: Family;
  readonly signed: Family;
  /** Label `reason`. */
  readonly refused: Family;
}

export interface GaugeSources {
  readonly clients: () => number;
  readonly addresses: () => number;
  readonly policies: () => number;
}

export function createMetrics(gauges: GaugeSources): ControlMetrics {
  const registry = createRegistry();
  registry.computed('pilot_xds', 'Connected xDS clients.', gauges.clients);
  registry.computed('culvert_control_addresses', 'Workloads and services published.', gauges.addresses);
  registry.computed('culvert_control_policies', 'L4 policies published.', gauges.policies);
  return {
    registry,
    pushes: registry.counter('pilot_pushes', 'Pushes after debouncing.'),
    sent: registry.counter('pilot_xds_resources_sent', 'Resources sent to clients, by type.'),
    rejects: registry.counter('pilot_xds_rejects', 'Responses that clients rejected, by type.'),
    signed: registry.counter('citadel_server_success_cert_issuance_count', 'Certificates signed.'),
    refused: registry.counter('citadel_server_refused_count', 'Certificate requests refused, by reason.'),
  };
}
