// Golden cases as data (*.yaml beside this file): objects in, published resources out. The expectations are written by
// hand from the specification whose section each case names; none was ever produced by the code. A real istiod was asked the
// same (docs/INTEROP.md).
//
//   - case: what is shown               a sentence
//     spec: §2.4                        section of control-plane.md
//     given:                            objects, headed by kind and name; metadata's fields stand in the object
//       Pod shop/web: { ip: 10.0.0.1, labels: { app: web } }
//       MeshConfig: { … }               key `mesh` of ConfigMap istio
//     expect:                           every address published, no other; of each the fields that matter
//       Kubernetes//Pod/shop/web: { status: HEALTHY }
//     policies: { shop/x: { … } }       likewise; none when left out
//     options: { … }                    settings of the control plane (mesh-model.ts)
//     differs: what Istio does          where the case differs from it on purpose
//     exact: true                       every field of every resource that is not its default

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml, stringify as yamlOf } from 'yaml';
import type { KubeObject, Pod } from '#k8s/objects.ts';
import { DEFAULT_MESH_CONFIG, type MeshConfig, parseMeshConfig } from '../mesh-config.ts';
import type { MeshModelOptions, ModelKind } from '../mesh-model.ts';

type Fields = Readonly<Record<string, unknown>>;

export interface GoldenObject {
  readonly kind: ModelKind;
  readonly object: KubeObject;
}

export interface GoldenCase {
  readonly file: string;
  readonly says: string;
  readonly spec: string;
  readonly objects: readonly GoldenObject[];
  readonly config: MeshConfig;
  readonly exact: boolean;
  readonly options: Partial<MeshModelOptions>;
  readonly expect: Readonly<Record<string, Fields>>;
  readonly policies: Readonly<Record<string, Fields>>;
}

interface Source {
  readonly case?: string;
  readonly spec?: string;
  readonly given?: Readonly<Record<string, Fields | null>>;
  readonly expect?: Readonly<Record<string, Fields | null>>;
  readonly policies?: Readonly<Record<string, Fields | null>>;
  readonly exact?: boolean;
  readonly differs?: string;
  readonly options?: Partial<MeshModelOptions>;
}

const KINDS: Readonly<Record<string, readonly [ModelKind, apiVersion: string]>> = {
  Namespace: ['namespace', 'v1'],
  Node: ['node', 'v1'],
  Pod: ['pod', 'v1'],
  Service: ['service', 'v1'],
  EndpointSlice: ['slice', 'discovery.k8s.io/v1'],
  ServiceEntry: ['serviceEntry', 'networking.istio.io/v1'],
  WorkloadEntry: ['workloadEntry', 'networking.istio.io/v1'],
  Gateway: ['gateway', 'gateway.networking.k8s.io/v1'],
  GatewayClass: ['gatewayClass', 'gateway.networking.k8s.io/v1'],
  AuthorizationPolicy: ['authorizationPolicy', 'security.istio.io/v1'],
  PeerAuthentication: ['peerAuthentication', 'security.istio.io/v1'],
};

/** Fields of metadata that may stand in the object itself. */
const METADATA = ['labels', 'annotations', 'uid', 'generateName', 'deletionTimestamp', 'ownerReferences'];

export function goldenCases(): GoldenCase[] {
  const folder = import.meta.dirname;
  return globSync('*.yaml', { cwd: folder })
    .sort()
    .flatMap((file) => {
      const sources = parseYaml(readFileSync(join(folder, file), 'utf8')) as readonly Source[];
      return sources.map((source) => readCase(file, source));
    });
}

function readCase(file: string, source: Source): GoldenCase {
  const { case: says, spec, given = {}, expect = {}, policies = {}, exact = false, options = {} } = source;
  if (says === undefined || spec === undefined || !/^§\d/.test(spec))
    throw new TypeError(`${file}: a case needs "case" and "spec: §…": ${JSON.stringify(source)}`);
  const { MeshConfig: config, ...objects } = given;
  return {
    file,
    says,
    spec,
    exact,
    options,
    config: config ? parseMeshConfig(yamlOf(config)) : DEFAULT_MESH_CONFIG,
    objects: Object.entries(objects).map(([heading, body]) => readObject(heading, body ?? {})),
    expect: filled(expect),
    policies: filled(policies),
  };
}

function readObject(heading: string, body: Fields): GoldenObject {
  const [kindName = '', path = ''] = heading.split(' ');
  const known = KINDS[kindName];
  if (known === undefined || path === '') throw new TypeError(`no such object: ${heading}`);
  const [kind, apiVersion] = known;
  const [namespace, name] = path.includes('/') ? path.split('/') : [undefined, path];
  const metadata: Record<string, unknown> = {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    uid: `uid-${path}`,
    creationTimestamp: body.created ?? '2026-01-01T00:00:00Z',
  };
  const rest: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(body)) {
    if (METADATA.includes(field)) metadata[field] = value;
    else if (!['created', 'ip', 'ips', 'ready', 'owner'].includes(field)) rest[field] = value;
  }
  if (body.owner !== undefined)
    metadata.ownerReferences = [{ apiVersion: 'v1', uid: 'o', controller: true, ...(body.owner as object) }];
  const object = { apiVersion, kind: kindName, metadata, ...rest } as unknown as KubeObject;
  return { kind, object: kind === 'pod' ? asPod(object as Pod, body) : object };
}

/** A pod runs and is ready unless it says otherwise. */
function asPod(object: Pod, body: Fields): Pod {
  const ips = (body.ips as string[] | undefined) ?? (body.ip === undefined ? [] : [body.ip as string]);
  return {
    ...object,
    spec: { ...object.spec, containers: object.spec?.containers ?? [] },
    status: {
      phase: 'Running',
      ...(ips[0] === undefined ? {} : { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) }),
      conditions: [{ type: 'Ready', status: body.ready === false ? 'False' : 'True' }],
      ...object.status,
    },
  };
}

function filled(resources: Readonly<Record<string, Fields | null>>): Record<string, Fields> {
  return Object.fromEntries(Object.entries(resources).map(([name, fields]) => [name, fields ?? {}]));
}

/** The same object before people gave it labels, annotations and a status. */
export function bare({ kind, object }: GoldenObject): GoldenObject {
  const { labels: _labels, annotations: _annotations, ...metadata } = object.metadata;
  const { status: _status, ...rest } = object as KubeObject & { status?: unknown };
  return { kind, object: { ...rest, metadata } as KubeObject };
}
