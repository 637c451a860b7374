// Rules of Pod: defaults, the projected service-account volume that admission adds, the first status.

import type { Kind, Strategy, StrategyContext } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { defaultPodSpec, requestLimits } from './pod-defaults.ts';
import { podSpecChange, validatePodSpec } from './pod-validation.ts';
import { randomSuffix } from './random-name.ts';
import { forbidden, invalid } from './status.ts';
import { resourceKey } from './store.ts';

const TOKEN_MOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** 3607 and not 3600: the field's mark of a token that admission asked for. */
const TOKEN_SECONDS = 3607;
const DEFAULT_ACCOUNT = 'default';
const SERVICE_ACCOUNTS: Kind['resource'] = resourceKey('', 'serviceaccounts');

export const podStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  statusCarries: ['labels', 'annotations'],
  defaults: (object) => {
    if (!isObject(object.spec)) object.spec = {};
    const spec = object.spec as JsonObject;
    defaultPodSpec(spec);
    requestLimits(spec);
    spec.enableServiceLinks ??= true;
  },
  prepareCreate: (object, context) => {
    const spec = object.spec as JsonObject;
    spec.serviceAccountName ??= DEFAULT_ACCOUNT;
    spec.serviceAccount = spec.serviceAccountName;
    mountToken(object, spec, context);
    tolerateShortOutages(spec);
    object.status = { phase: 'Pending', qosClass: qosClass(spec) };
  },
  validate: (object, old) => {
    const spec = object.spec as JsonObject;
    const errors = validatePodSpec(spec, 'spec');
    if (old !== undefined) errors.push(...podSpecChange(spec, old.spec as JsonObject));
    const node = spec.nodeName;
    if (node !== undefined && typeof node !== 'string')
      errors.push(invalid('spec.nodeName', node, 'must be a string'));
    return errors;
  },
};

/** How long a pod stays bound to a node that fell silent. Clusters wait 300 s; a person at one machine waits with them. */
const OUTAGE_SECONDS = 20;
const OUTAGE_TAINTS = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** The DefaultTolerationSeconds admission plugin. */
function tolerateShortOutages(spec: JsonObject): void {
  const present = (Array.isArray(spec.tolerations) ? spec.tolerations : []).filter(isObject);
  const covered = (key: string): boolean =>
    present.some(
      (each) =>
        (each.key === key || ((each.key ?? '') === '' && each.operator === 'Exists')) &&
        ['', 'NoExecute', undefined].includes(each.effect as string | undefined),
    );
  const added = OUTAGE_TAINTS.filter((key) => !covered(key)).map((key) => ({
    key,
    operator: 'Exists',
    effect: 'NoExecute',
    tolerationSeconds: OUTAGE_SECONDS,
  }));
  if (added.length > 0) spec.tolerations = [...present, ...added];
}

/** The ServiceAccount admission plugin: token, cluster root and namespace at the path every client library reads. */
function mountToken(object: ApiObject, spec: JsonObject, { store, random }: StrategyContext): void {
  const accountName = String(spec.serviceAccountName);
  const { name: podName, namespace } = object.metadata;
  const account = store.get(SERVICE_ACCOUNTS, namespace, accountName);
  // The controller makes `default` in every namespace: a pod applied together with its namespace may be faster.
  if (account === undefined && accountName !== DEFAULT_ACCOUNT)
    throw forbidden(
      { group: '', plural: 'pods', kind: 'Pod' },
      podName,
      `error looking up service account ${namespace}/${accountName}: serviceaccount ${JSON.stringify(accountName)} not found`,
    );
  const wanted = spec.automountServiceAccountToken ?? account?.object.automountServiceAccountToken ?? true;
  if (wanted === false) return;
  const containers = ['containers', 'initContainers']
    .flatMap((group) => (Array.isArray(spec[group]) ? (spec[group] as unknown[]) : []))
    .filter(isObject)
    .filter((container) => !mountsAt(container, TOKEN_MOUNT));
  if (containers.length === 0) return;
  const name = `kube-api-access-${randomSuffix(random)}`;
  for (const container of containers)
    container.volumeMounts = [
      ...(Array.isArray(container.volumeMounts) ? container.volumeMounts : []),
      { name, readOnly: true, mountPath: TOKEN_MOUNT },
    ];
  const namespaceItem = {
    path: 'namespace',
    fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' },
  };
  spec.volumes = [
    ...(Array.isArray(spec.volumes) ? spec.volumes : []),
    {
      name,
      projected: {
        sources: [
          { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
          { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          { downwardAPI: { items: [namespaceItem] } },
        ],
        defaultMode: 0o644,
      },
    },
  ];
}

const mountsAt = (container: JsonObject, path: string): boolean =>
  Array.isArray(container.volumeMounts) &&
  container.volumeMounts.some((mount: unknown) => at(mount, 'mountPath') === path);

function qosClass(spec: JsonObject): string {
  const resources = (Array.isArray(spec.containers) ? (spec.containers as unknown[]) : []).map(
    (container) => ({
      requests: at(container, 'resources', 'requests'),
      limits: at(container, 'resources', 'limits'),
    }),
  );
  if (resources.every(({ requests, limits }) => requests === undefined && limits === undefined))
    return 'BestEffort';
  const guaranteed = resources.every(({ requests, limits }) =>
    ['cpu', 'memory'].every((name) => {
      const limit = at(limits, name);
      return limit !== undefined && (at(requests, name) ?? limit) === limit;
    }),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}
