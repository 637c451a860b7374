// Rules of Service: cluster addresses and node ports are given out here.

import type { Service } from '#k8s/objects.ts';
import type { ServiceFamilies, Strategy, StrategyContext } from './kind.ts';
import { type ApiObject, isObject, type JsonObject } from './object.ts';
import { allocateAddress, allocateNodePorts, SUBJECT, servicePorts } from './service-allocation.ts';
import { checkService } from './service-checks.ts';
import { joinAddresses, settleFamilies } from './service-families.ts';
import { invalidObject } from './status.ts';

type Spec = Partial<Service['spec']> & JsonObject;
const DEFAULT_AFFINITY_S = 10_800;

const specOf = (object: ApiObject): Spec => {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as Spec;
};
const hasNodePorts = ({ type }: Spec): boolean => type === 'NodePort' || type === 'LoadBalancer';
const isReachableFromOutside = (spec: Spec): boolean =>
  hasNodePorts(spec) || (spec.type === 'ClusterIP' && (spec.externalIPs ?? []).length > 0);

export const serviceStrategy: Strategy = {
  generation: false,
  nameRule: 'label1035',
  statusCarries: ['labels', 'annotations'],
  defaults: (object) => {
    const spec = specOf(object);
    spec.type ??= 'ClusterIP';
    spec.sessionAffinity ??= 'None';
    if (spec.sessionAffinity === 'ClientIP')
      spec.sessionAffinityConfig ??= { clientIP: { timeoutSeconds: DEFAULT_AFFINITY_S } };
    if (spec.type !== 'ExternalName') spec.internalTrafficPolicy ??= 'Cluster';
    if (isReachableFromOutside(spec)) spec.externalTrafficPolicy ??= 'Cluster';
    if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true;
    for (const port of servicePorts(object)) {
      port.protocol ??= 'TCP';
      if (port.targetPort === undefined || port.targetPort === 0) port.targetPort = port.port;
    }
  },
  prepareCreate: (object, context) => {
    object.status = { loadBalancer: {} };
    allocate(object, undefined, context);
  },
  prepareUpdate: (object, old, context) => {
    keepNodePorts(object, old);
    dropWhatTheTypeLacks(object, old);
    allocate(object, old, context);
  },
  validate: checkService,
};

function allocate(object: ApiObject, old: ApiObject | undefined, context: StrategyContext): void {
  const { store, serviceFamilies } = context;
  const spec = specOf(object);
  if (spec.type === 'ExternalName') {
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy']) delete spec[field];
    return;
  }
  const before = old === undefined || specOf(old).type === 'ExternalName' ? undefined : specOf(old);
  joinAddresses(spec, before);
  // What cannot be right is told by the checks, which come next.
  if (checkService(object, undefined).length > 0) return;
  const errors = settleFamilies(spec, before, serviceFamilies);
  if (errors.length > 0) throw invalidObject(SUBJECT, object.metadata.name, errors);
  if (spec.clusterIPs?.[0] !== 'None') {
    const families = spec.ipFamilies as ServiceFamilies;
    spec.clusterIPs = families.map((family, index) =>
      allocateAddress(object, spec.clusterIPs?.[index] ?? '', family, store),
    );
    spec.clusterIP = spec.clusterIPs[0] ?? '';
  }
  const wantsPorts = spec.type === 'NodePort' || spec.allocateLoadBalancerNodePorts === true;
  if (hasNodePorts(spec) && (wantsPorts || servicePorts(object).some(({ nodePort }) => nodePort)))
    allocateNodePorts(object, store, { fill: wantsPorts });
}

function keepNodePorts(object: ApiObject, old: ApiObject): void {
  if (!hasNodePorts(specOf(object))) return;
  for (const port of servicePorts(object)) {
    const before = servicePorts(old).find(
      (other) => other.port === port.port && other.protocol === port.protocol,
    );
    if (port.nodePort === undefined && before?.nodePort !== undefined) port.nodePort = before.nodePort;
  }
}

/** A change of type takes along what only the former type had, unless the client asks for something else by it. */
function dropWhatTheTypeLacks(object: ApiObject, old: ApiObject): void {
  const spec = specOf(object);
  const before = specOf(old);
  if (hasNodePorts(before) && !hasNodePorts(spec)) {
    const numbers = (of: ApiObject): string =>
      JSON.stringify(servicePorts(of).map(({ nodePort }) => nodePort ?? 0));
    if (numbers(object) === numbers(old)) for (const port of servicePorts(object)) delete port.nodePort;
  }
  if (!isReachableFromOutside(spec) && spec.externalTrafficPolicy === before.externalTrafficPolicy)
    delete spec.externalTrafficPolicy;
  if (
    spec.type !== 'LoadBalancer' &&
    spec.allocateLoadBalancerNodePorts === before.allocateLoadBalancerNodePorts
  )
    delete spec.allocateLoadBalancerNodePorts;
  if (spec.sessionAffinity === 'None' && before.sessionAffinity === 'ClientIP')
    if (JSON.stringify(spec.sessionAffinityConfig) === JSON.stringify(before.sessionAffinityConfig))
      delete spec.sessionAffinityConfig;
}
