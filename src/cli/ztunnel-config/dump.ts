// A ztunnel's config dump as far as our tables need it. Older versions keep workloads, services and policies in maps.

import { MeshError } from '#base/errors.ts';

export interface DumpWorkload {
  readonly uid?: string;
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps?: readonly string[];
  /** Of a workload that has a name instead of addresses. */
  readonly hostname?: string;
  readonly node?: string;
  readonly protocol?: string;
  readonly status?: string;
  readonly serviceAccount?: string;
  readonly clusterId?: string;
  readonly waypoint?: Gateway;
}

export interface Gateway {
  readonly destination: string;
}

export interface DumpService {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips?: readonly string[];
  readonly ports?: Readonly<Record<string, number>>;
  readonly endpoints?: Readonly<Record<string, { readonly workloadUid?: string }>>;
  readonly waypoint?: Gateway;
}

export interface DumpPolicy {
  readonly name: string;
  readonly namespace: string;
  readonly action: string;
  readonly scope: string;
  readonly dryRun?: boolean;
  readonly rules?: readonly unknown[];
}

export interface DumpCertificate {
  /** PEM, in base64. */
  readonly pem?: string;
  readonly serialNumber: string;
  readonly validFrom: string;
  readonly expirationTime: string;
}

export interface DumpIdentity {
  readonly identity: string;
  readonly state: string;
  readonly certChain?: readonly DumpCertificate[];
  readonly rootCerts?: readonly DumpCertificate[];
}

export interface DumpConnection {
  readonly src: string;
  readonly originalDst?: string | null;
  readonly actualDst?: string;
  readonly protocol?: string;
}

export interface DumpState {
  readonly state?: string;
  readonly info?: { readonly name: string; readonly namespace: string };
  readonly connections?: {
    readonly inbound?: readonly DumpConnection[];
    readonly outbound?: readonly DumpConnection[];
  };
}

export interface Dump {
  readonly workloads: readonly DumpWorkload[];
  readonly services: readonly DumpService[];
  readonly policies: readonly DumpPolicy[];
  readonly certificates: readonly DumpIdentity[];
  readonly workloadState: readonly DumpState[];
  readonly version: Readonly<Record<string, string>>;
  /** As it came. */
  readonly raw: unknown;
}

/** @throws MeshError CONFIG_INVALID naming where the text came from */
export function parseDump(text: string, source: string): Dump {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw new MeshError('CONFIG_INVALID', `${source} is no config dump: it is no JSON`, { cause: error });
  }
  if (typeof raw !== 'object' || raw === null || !('workloads' in raw))
    throw new MeshError('CONFIG_INVALID', `${source} is no config dump of a ztunnel`);
  const dump = raw as Readonly<Record<string, unknown>>;
  return {
    workloads: listOf(dump.workloads),
    services: listOf(dump.services),
    policies: listOf(dump.policies),
    certificates: listOf(dump.certificates),
    workloadState: listOf(dump.workloadState),
    version: (dump.version ?? {}) as Dump['version'],
    raw,
  };
}

function listOf<T>(value: unknown): readonly T[] {
  if (Array.isArray(value)) return value as T[];
  return typeof value === 'object' && value !== null ? (Object.values(value) as T[]) : [];
}
