// What the agent counts (cni.md E.5). Names are the field's where the field has the number.

import { createRegistry, type Registry } from '#telemetry/metrics.ts';
import type { Protection } from './protection.ts';

export interface CniMetrics {
  readonly registry: Registry;
  readonly reconciled: (type: 'add' | 'update' | 'delete') => void;
  readonly pluginAnswered: (status: number) => void;
  readonly installed: (result: 'SUCCESS' | 'COPY_BINARIES_FAILURE' | 'CREATE_CNI_CONFIG_FAILURE') => void;
}

export interface CniGauges {
  readonly connectedZtunnels: () => number;
  readonly isInstalled: () => boolean;
  readonly pods: (protection: Protection) => number;
  readonly olderConnections: () => number;
}

export function createCniMetrics(gauges: CniGauges): CniMetrics {
  const registry = createRegistry();
  const reconciled = registry.counter(
    'nodeagent_reconcile_events',
    'Pods put into the mesh, given other addresses, or taken out.',
  );
  const answered = registry.counter('istio_cni_plugin_requests', 'Answers to the CNI plugin, by status.');
  const installs = registry.counter('istio_cni_installs', 'Installations of the CNI plugin, by result.');
  registry.computed('ztunnel_connected', 'Connected ztunnels.', gauges.connectedZtunnels);
  registry.computed('istio_cni_install_ready', 'Whether the CNI plugin is installed and effective.', () =>
    gauges.isInstalled() ? 1 : 0,
  );
  registry.computed('culvert_cni_captured_pods', 'Pods that are redirected and served.', () =>
    gauges.pods('captured'),
  );
  registry.computed(
    'culvert_cni_waiting_pods',
    'Pods that are redirected and served by no ztunnel yet.',
    () => gauges.pods('waiting'),
  );
  registry.computed(
    'culvert_cni_unprotected_pods',
    'Pods that belong to the mesh and are not redirected: their traffic is in the clear.',
    () => gauges.pods('unprotected'),
  );
  registry.computed(
    'culvert_cni_older_connections',
    'Connections that go past ztunnel because they are older than the enrolment of their pod.',
    gauges.olderConnections,
  );
  return {
    registry,
    reconciled: (type) => reconciled.add({ type }),
    pluginAnswered: (status) => answered.add({ response_code: String(status) }),
    installed: (result) => installs.add({ result }),
  };
}
