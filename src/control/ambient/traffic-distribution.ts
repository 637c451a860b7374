// How the endpoints of a service are preferred (control-plane.md §2.13). Pure; a fresh value for each service.

import type { LoadBalancing } from '#model/service.ts';
import { ANNOTATION, type Labels } from './labels.ts';

export type TrafficDistribution = 'zone' | 'node' | 'any';

/** The field first, then the object's annotation, then the namespace's. An unknown annotation ends the search. */
export function trafficDistribution(
  field: string | undefined,
  annotations: Labels,
  namespaceAnnotations: Labels,
): TrafficDistribution {
  const stated = named(field?.toLowerCase());
  if (stated !== 'any') return stated;
  const text =
    annotations[ANNOTATION.trafficDistribution] || namespaceAnnotations[ANNOTATION.trafficDistribution];
  return named(text?.toLowerCase());
}

function named(value: string | undefined): TrafficDistribution {
  if (value === 'prefersamezone' || value === 'preferclose') return 'zone';
  return value === 'prefersamenode' ? 'node' : 'any';
}

export function failover(
  distribution: TrafficDistribution,
  healthPolicy: LoadBalancing['healthPolicy'],
): LoadBalancing | undefined {
  switch (distribution) {
    case 'zone':
      return { routingPreferences: ['Network', 'Region', 'Zone'], mode: 'Failover', healthPolicy };
    case 'node':
      return {
        routingPreferences: ['Network', 'Region', 'Zone', 'Subzone', 'Node'],
        mode: 'Failover',
        healthPolicy,
      };
    case 'any':
      return healthPolicy === 'AllowAll'
        ? { routingPreferences: [], mode: 'Standard', healthPolicy }
        : undefined;
  }
}
