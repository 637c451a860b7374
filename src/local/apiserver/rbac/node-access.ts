// What a kubelet may do: its own node, its lease, the pods bound to it and what those refer to. Pods are looked up at each
// decision, so a pod that has left the node opens nothing any more. As Kubernetes' node authorizer and its node
// restriction together; what a request's body says is checked in write-guard.ts.

import { at, isObject, type JsonObject } from '../object.ts';
import { resourceKey, type Store } from '../store.ts';
import type { User } from '../user-info.ts';
import type { Access, ResourceAccess } from './access.ts';

const NODES_GROUP = 'system:nodes';
const PREFIX = 'system:node:';
const LEASE_NAMESPACE = 'kube-node-lease';
const PODS = resourceKey('', 'pods');
const VOLUMES = resourceKey('', 'persistentvolumes');

/** The node's name, for a user that is a kubelet. */
export function nodeOf(user: User): string | undefined {
  return user.groups.includes(NODES_GROUP) && user.name.startsWith(PREFIX)
    ? user.name.slice(PREFIX.length)
    : undefined;
}

const READ = ['get', 'list', 'watch'];
const WRITE = ['update', 'patch'];

/** True when the request is within what the kubelet of this node needs. */
export function nodeMay(store: Store, node: string, access: Access): boolean {
  if (access.kind === 'path') return false;
  const { group, resource, subresource, verb, name } = access;
  switch (`${group}/${resource}`) {
    case '/nodes':
      if (subresource === '') {
        if (READ.includes(verb) || verb === 'create') return true;
        return WRITE.includes(verb) && name === node;
      }
      return subresource === 'status' && WRITE.includes(verb) && name === node;
    case '/pods':
      return podAccess(store, node, access);
    case '/services':
    case 'networking.k8s.io/networkpolicies':
    case 'discovery.k8s.io/endpointslices':
      return subresource === '' && READ.includes(verb);
    case '/events':
      return subresource === '' && ['create', 'update', 'patch'].includes(verb);
    case 'coordination.k8s.io/leases':
      if (subresource !== '' || access.namespace !== LEASE_NAMESPACE) return false;
      return verb === 'create' || (['get', 'delete', ...WRITE].includes(verb) && name === node);
    case '/configmaps':
    case '/secrets':
      // A list or watch of one name is how clients follow one object.
      return (
        subresource === '' &&
        READ.includes(verb) &&
        name !== '' &&
        podsOf(store, node, access.namespace).some((pod) => refersTo(pod, resource, name))
      );
    case '/persistentvolumeclaims':
      return (
        subresource === '' &&
        verb === 'get' &&
        podsOf(store, node, access.namespace).some((pod) => claimsOf(pod).includes(name))
      );
    case '/persistentvolumes': {
      const claim = at(store.get(VOLUMES, undefined, name)?.object, 'spec', 'claimRef');
      return (
        subresource === '' &&
        verb === 'get' &&
        podsOf(store, node, String(at(claim, 'namespace') ?? '')).some((pod) =>
          claimsOf(pod).includes(at(claim, 'name')),
        )
      );
    }
    case '/serviceaccounts':
      if (subresource !== '' && subresource !== 'token') return false;
      if (verb !== (subresource === 'token' ? 'create' : 'get')) return false;
      return podsOf(store, node, access.namespace).some(
        (pod) => at(pod, 'spec', 'serviceAccountName') === name,
      );
    default:
      return false;
  }
}

function podAccess(store: Store, node: string, access: ResourceAccess): boolean {
  const { verb, name, namespace, subresource, fields } = access;
  if ((verb === 'list' || verb === 'watch') && subresource === '')
    return fields.get('spec.nodeName') === node;
  const allowed =
    subresource === ''
      ? verb === 'get' || verb === 'delete'
      : subresource === 'status'
        ? WRITE.includes(verb) || verb === 'get'
        : subresource === 'eviction' && verb === 'create';
  if (!allowed) return false;
  const pod = store.get(PODS, namespace, name)?.object;
  // One that is gone already is answered with 404, which a kubelet that is late expects.
  return pod === undefined || at(pod, 'spec', 'nodeName') === node;
}

const podsOf = (store: Store, node: string, namespace: string): JsonObject[] =>
  store
    .list(PODS, namespace)
    .map(({ object }) => object)
    .filter((pod) => at(pod, 'spec', 'nodeName') === node);

/** Names of claims that the pod has volumes of. */
const claimsOf = (pod: JsonObject): unknown[] =>
  list(at(pod, 'spec', 'volumes')).flatMap(
    (volume) => at(volume, 'persistentVolumeClaim', 'claimName') ?? [],
  );

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** Whether the pod uses the ConfigMap or Secret: volumes, projected ones too, env, envFrom, pull secrets. */
function refersTo(pod: JsonObject, resource: 'configmaps' | 'secrets' | string, name: string): boolean {
  const spec = pod.spec;
  const isMap = resource === 'configmaps';
  const named = (value: unknown): boolean => isObject(value) && (value.name ?? value.secretName) === name;
  const inVolume = (volume: unknown): boolean =>
    named(at(volume, isMap ? 'configMap' : 'secret')) ||
    list(at(volume, 'projected', 'sources')).some((source) =>
      named(at(source, isMap ? 'configMap' : 'secret')),
    );
  const inContainer = (container: unknown): boolean =>
    list(at(container, 'envFrom')).some((from) => named(at(from, isMap ? 'configMapRef' : 'secretRef'))) ||
    list(at(container, 'env')).some((entry) =>
      named(at(entry, 'valueFrom', isMap ? 'configMapKeyRef' : 'secretKeyRef')),
    );
  return (
    list(at(spec, 'volumes')).some(inVolume) ||
    ['containers', 'initContainers', 'ephemeralContainers'].some((field) =>
      list(at(spec, field)).some(inContainer),
    ) ||
    (!isMap && list(at(spec, 'imagePullSecrets')).some(named))
  );
}
