// What the stages of the ambient index hold, and what of: read out of the index as it stands, for the debug page `krtz`
// (control-plane.md §10.1). Nothing is kept for it; what a unit looked at is what `Reads` knows, by name, and what selects it.

import type { Claims } from './claims.ts';
import { labelsOfEntry } from './endpoint.ts';
import { NETWORK_GATEWAYS } from './gateways.ts';
import { type Labels, labelsOf } from './labels.ts';
import { networkGatewaysOf } from './network-gateway.ts';
import type { Publisher } from './publisher.ts';
import { type MeshKind, TOKEN, type World } from './world.ts';

/** What is computed, from top to bottom: a unit is a kind, a space, and the key of its object. */
export type Unit = 'gateway' | 'service' | 'serviceEntry' | 'pod' | 'workloadEntry' | 'endpoints' | 'slice';

export interface StageInput {
  /** Keys of the outputs that come of it. */
  readonly outputs: readonly string[];
  /** What else was looked at: `node n1`, `waypoint shop/wp`; of a host name, who claims it. */
  readonly dependencies: readonly string[];
}

export interface Stage {
  readonly name: string;
  /** The objects that it is computed of, or the name of the stage above. */
  readonly inputCollection: string;
  readonly inputs: ReadonlyMap<string, StageInput>;
  /** Of what is published: the version. */
  readonly outputs: ReadonlyMap<string, unknown>;
  /** The kinds whose list must have arrived for the stage to be complete. */
  readonly kinds: readonly MeshKind[];
  /** Units that are marked, and will be computed at the end of this turn of the event loop. */
  readonly marked: number;
}

export interface StagesDeps {
  readonly world: World;
  readonly claims: Claims;
  readonly publisher: Publisher;
  readonly marked: Readonly<Record<Unit, ReadonlySet<string>>>;
  readonly versionOf: (name: string) => string | undefined;
}

export function stagesOf(deps: StagesDeps): readonly Stage[] {
  const { world } = deps;
  const { pod, workloadEntry } = world.objects;
  return [
    waypoints(deps),
    networkGateways(deps),
    claims(deps, 'service', 'Service'),
    claims(deps, 'serviceEntry', 'ServiceEntry'),
    owners(deps),
    workloads(deps, 'pod', 'pod', 'Pod', (key) => selecting(world, key, labelsOf(pod.get(key)))),
    workloads(deps, 'workloadEntry', 'workloadEntry', 'WorkloadEntry', (key) =>
      selecting(world, key, labelsOfEntry(workloadEntry.get(key)!)),
    ),
    workloads(deps, 'endpoints', 'serviceEntry', 'ServiceEntry'),
    workloads(deps, 'slice', 'slice', 'EndpointSlice'),
  ];
}

function waypoints({ world, marked }: StagesDeps): Stage {
  const inputs = inputsOf(world.objects.gateway.keys(), (key) => ({
    outputs: world.waypoints.has(key) ? [key] : [],
    // The accounts of its pods, where policies are made of them.
    dependencies: [
      ...world.reads.tokensOf(`gateway ${key}`),
      ...[...world.podsOfGateway.get(key)].map((pod) => `pod ${pod}`),
    ],
  }));
  return {
    name: 'waypoints',
    inputCollection: 'Gateway',
    inputs,
    outputs: sorted(world.waypoints),
    kinds: ['gateway', 'gatewayClass'],
    marked: marked.gateway.size,
  };
}

function networkGateways({ world, publisher, marked, versionOf }: StagesDeps): Stage {
  const { gateway } = world.objects;
  const inputs = inputsOf(gateway.keys(), (key) => ({
    outputs: networkGatewaysOf(gateway.get(key)!).map(({ network }) => network),
    dependencies: [],
  }));
  return {
    name: 'gateways to other networks',
    inputCollection: 'Gateway',
    inputs: new Map([...inputs].filter(([, { outputs }]) => outputs.length > 0)),
    outputs: new Map<string, unknown>([
      ...sorted(world.networkGateways),
      ...publishedNames(publisher.publishedBy(NETWORK_GATEWAYS), versionOf),
    ]),
    kinds: ['gateway'],
    marked: marked.gateway.size,
  };
}

function claims(deps: StagesDeps, unit: 'service' | 'serviceEntry', inputCollection: string): Stage {
  const { world, claims, marked } = deps;
  const outputs = new Map<string, unknown>();
  const inputs = inputsOf(world.objects[unit].keys(), (key) => {
    const records = claims.recordsOf(`${unit} ${key}`);
    for (const { service, selector, binding } of records)
      outputs.set(`${key} ${service.hostname}`, { selector, waypoint: binding.waypoint });
    return {
      outputs: records.map(({ service }) => `${key} ${service.hostname}`),
      dependencies: world.reads.tokensOf(`${unit} ${key}`),
    };
  });
  const name = unit === 'service' ? 'claims of services' : 'claims of service entries';
  const kinds: readonly MeshKind[] = [unit, 'gateway', 'namespace'];
  return { name, inputCollection, inputs, outputs: sorted(outputs), kinds, marked: marked[unit].size };
}

function owners({ world, claims, marked, publisher, versionOf }: StagesDeps): Stage {
  const inputs = new Map<string, StageInput>();
  for (const { hostname, sources, owners } of claims.hostnames())
    inputs.set(hostname, { outputs: owners.toSorted(), dependencies: sources.toSorted() });
  const outputs = [...world.owners].map(([key, { source, canonical }]) => {
    const [name = ''] = publisher.publishedBy(`owner ${key}`);
    return [key, { source, canonical, version: versionOf(name) }] as const;
  });
  return {
    name: 'services',
    inputCollection: 'claims of services, claims of service entries',
    inputs: sorted(inputs),
    outputs: sorted(new Map(outputs)),
    kinds: ['service', 'serviceEntry', 'gateway', 'namespace'],
    marked: marked.service.size + marked.serviceEntry.size,
  };
}

function workloads(
  { world, publisher, marked, versionOf }: StagesDeps,
  unit: Unit,
  kind: 'pod' | 'workloadEntry' | 'serviceEntry' | 'slice',
  inputCollection: string,
  selectedBy: (key: string) => readonly string[] = () => [],
): Stage {
  const outputs = new Map<string, unknown>();
  const inputs = inputsOf(world.objects[kind].keys(), (key) => {
    const names = publisher.publishedBy(`${unit} ${key}`);
    for (const [name, version] of publishedNames(names, versionOf)) outputs.set(name, version);
    return {
      outputs: names,
      dependencies: [...new Set([...world.reads.tokensOf(`${unit} ${key}`), ...selectedBy(key)])],
    };
  });
  return {
    name: `workloads of ${WORKLOADS_OF[kind]}`,
    inputCollection,
    inputs,
    outputs: sorted(outputs),
    kinds: [kind, 'service', 'serviceEntry', 'gateway', 'namespace', ...(kind === 'pod' ? NODE : [])],
    marked: marked[unit].size,
  };
}

const NODE: readonly MeshKind[] = ['node', 'slice'];
const WORKLOADS_OF = {
  pod: 'pods',
  workloadEntry: 'workload entries',
  serviceEntry: 'service entries',
  slice: 'endpoint slices',
} as const;

/** Services that select the object: such a dependency is by labels and leaves no token. */
function selecting(world: World, key: string, labels: Labels): readonly string[] {
  const namespace = key.slice(0, key.indexOf('/'));
  return [...world.selectors.matching(namespace, labels)].map(TOKEN.owner);
}

function inputsOf(
  keys: Iterable<string>,
  describe: (key: string) => StageInput,
): ReadonlyMap<string, StageInput> {
  const inputs = [...keys].sort().map((key) => {
    const { outputs, dependencies } = describe(key);
    return [key, { outputs: outputs.toSorted(), dependencies: dependencies.toSorted() }] as const;
  });
  return new Map(inputs);
}

const publishedNames = (
  names: readonly string[],
  versionOf: StagesDeps['versionOf'],
): readonly (readonly [string, string | undefined])[] => names.map((name) => [name, versionOf(name)]);

const sorted = <T>(map: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
  new Map([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
