// What every cluster has from the first moment: the default namespaces, the Service that leads to
// this server, the default roles.

import { DIRECTORY_PROVISIONER, IS_DEFAULT_CLASS } from '#k8s/storage.ts';
import { ADDRESSES } from '#local/machine/plan.ts';
import type { WriteOptions } from './admit.ts';
import { finishDefinitions } from './crd-removal.ts';
import type { Kind } from './kind.ts';
import { equal, type JsonObject } from './object.ts';
import { createObject, type ObjectsDeps, updateObject } from './objects.ts';
import { ensureDefaultRbac } from './rbac/default-objects.ts';
import { familyOfAddress } from './service-families.ts';

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

const OPTIONS: WriteOptions = {
  dryRun: false,
  fieldManager: 'culvert',
  fieldValidation: 'Strict',
  warnings: [],
};

export function bootstrap(
  deps: ObjectsDeps,
  options: {
    readonly advertise: { readonly address: string; readonly port: number };
    readonly crds: readonly JsonObject[];
  },
): void {
  const find = (group: string, plural: string): Kind => deps.registry.find(group, 'v1', plural)!;
  const ensure = (kind: Kind, namespace: string | undefined, object: JsonObject): void => {
    const name = (object.metadata as { name: string }).name;
    const stored = deps.store.get(kind.resource, namespace, name);
    if (stored === undefined) createObject(deps, kind, namespace, object, OPTIONS);
    else {
      const change = (current: JsonObject): JsonObject => ({
        ...current,
        ...Object.fromEntries(Object.entries(object).filter(([field]) => field !== 'metadata')),
      });
      if (!equal(change(stored.object), stored.object))
        updateObject(deps, kind, stored, change, 'object', OPTIONS);
    }
  };
  for (const name of NAMESPACES)
    if (deps.store.get(find('', 'namespaces').resource, undefined, name) === undefined)
      createObject(deps, find('', 'namespaces'), undefined, { metadata: { name } }, OPTIONS);
  ensure(find('', 'services'), 'default', kubernetesService(options.advertise.address));
  ensure(find('discovery.k8s.io', 'endpointslices'), 'default', kubernetesEndpoints(options.advertise));
  // Only where it is missing: whoever changes what the cluster's volumes are like keeps the change.
  const classes = find('storage.k8s.io', 'storageclasses');
  if (deps.store.get(classes.resource, undefined, STANDARD_CLASS.metadata.name) === undefined)
    createObject(deps, classes, undefined, structuredClone(STANDARD_CLASS), OPTIONS);
  finishDefinitions(deps);
  ensureDefaultRbac(deps, OPTIONS);
  for (const crd of options.crds)
    ensure(find('apiextensions.k8s.io', 'customresourcedefinitions'), undefined, crd);
}

const STANDARD_CLASS = {
  metadata: { name: 'standard', annotations: { [IS_DEFAULT_CLASS]: 'true' } },
  provisioner: DIRECTORY_PROVISIONER,
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'WaitForFirstConsumer',
};

const LABELS = { component: 'apiserver', provider: 'kubernetes' };

/** The address of the Service is of the family that the server is reached by. */
const kubernetesService = (serverAddress: string): JsonObject => ({
  metadata: { name: 'kubernetes', labels: LABELS },
  spec: {
    type: 'ClusterIP',
    clusterIP: ADDRESSES[familyOfAddress(serverAddress)].apiService,
    ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: 16443 }],
  },
});

const kubernetesEndpoints = (advertise: { readonly address: string; readonly port: number }): JsonObject => ({
  metadata: {
    name: 'kubernetes',
    labels: {
      'kubernetes.io/service-name': 'kubernetes',
      'endpointslice.kubernetes.io/managed-by': 'culvert',
    },
  },
  addressType: familyOfAddress(advertise.address),
  endpoints: [
    { addresses: [advertise.address], conditions: { ready: true, serving: true, terminating: false } },
  ],
  ports: [{ name: 'https', port: advertise.port, protocol: 'TCP' }],
});
