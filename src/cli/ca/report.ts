// What `culvert ca` says of an authority (pure): its certificates with their ends, when everything below has to be renewed,
// who trusts what, and what somebody should do about it.

import type { X509Certificate } from 'node:crypto';
import { type AuthorityMaterial, isSame, issuedBy, titleOf } from '#tls/authority-material.ts';
import { describeKey } from '#tls/key-strength.ts';
import type { ProxyHoldings } from './holdings.ts';
import { nameOf } from './names.ts';
import type { NamespaceTrust } from './trust.ts';

const DAY_MS = 86_400_000;
/** The field's own rule for roots: renewed with a fifth of their life left. */
const LEAST_SHARE_LEFT = 0.2;
/** A refresh is due at half of the life; the longest delay between tries is 150 s (ztunnel.md §4.4). */
const OVERDUE_MS = 10 * 60_000;

export interface CertificateFacts {
  readonly role: 'signing' | 'intermediate' | 'root';
  readonly name: string;
  /** SHA-256, as `openssl x509 -fingerprint -sha256` prints it. */
  readonly fingerprint: string;
  readonly serial: string;
  readonly key: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly daysLeft: number;
}

export interface ProxyFacts {
  readonly proxy: string;
  readonly node: string;
  readonly certificates: number;
  /** The first end of a certificate that it holds. */
  readonly firstEnd: string | undefined;
  /** When the last of them is due to be renewed. */
  readonly renewedBy: string | undefined;
  /** Certificates by the authority that signed them. */
  readonly signedBy: Readonly<Record<string, number>>;
  /** Roots that all of them trust. */
  readonly trusts: readonly string[];
  readonly without: readonly string[];
  readonly problem: string | undefined;
}

export interface Finding {
  /** `error`: connections fail, or will at the next renewal. */
  readonly level: 'warning' | 'error';
  readonly message: string;
}

export interface AuthorityReport {
  readonly source: 'self-signed' | 'plugged-in';
  readonly certificates: readonly CertificateFacts[];
  readonly namespaces: readonly Omit<NamespaceTrust, 'roots'>[];
  readonly proxies: readonly ProxyFacts[];
  readonly findings: readonly Finding[];
}

export interface ReportInput {
  readonly source: AuthorityReport['source'];
  readonly material: AuthorityMaterial;
  readonly trust: readonly NamespaceTrust[];
  readonly holdings: readonly ProxyHoldings[];
}

export function reportOn({ source, material, trust, holdings }: ReportInput, nowMs: number): AuthorityReport {
  const { certificate, chain, roots } = material;
  const isRoot = roots.some((root) => isSame(root, certificate));
  const upper = chain.filter((member) => !isSame(member, certificate));
  return {
    source,
    certificates: [
      ...(isRoot ? [] : [factsOf('signing', certificate, nowMs)]),
      ...upper.map((member) => factsOf('intermediate', member, nowMs)),
      ...roots.map((root) => factsOf(isSame(root, certificate) ? 'signing' : 'root', root, nowMs)),
    ],
    namespaces: trust.map(({ roots: _, ...rest }) => rest),
    proxies: holdings.map((one) => proxyFacts(one)),
    findings: [
      ...material.warnings.map((message) => ({ level: 'warning', message }) as const),
      ...endings([certificate, ...upper, ...roots], nowMs),
      ...trustFindings(trust),
      ...holdings.flatMap((one) => holdingFindings(one, material, nowMs)),
    ],
  };
}

function factsOf(
  role: CertificateFacts['role'],
  certificate: X509Certificate,
  nowMs: number,
): CertificateFacts {
  return {
    role,
    name: titleOf(certificate),
    fingerprint: certificate.fingerprint256,
    serial: certificate.serialNumber.toLowerCase(),
    key: describeKey(certificate.publicKey),
    notBefore: certificate.validFromDate.toISOString(),
    notAfter: certificate.validToDate.toISOString(),
    daysLeft: Math.floor((certificate.validToDate.getTime() - nowMs) / DAY_MS),
  };
}

function endings(certificates: readonly X509Certificate[], nowMs: number): Finding[] {
  const unique = certificates.filter(
    (one, at) => certificates.findIndex((other) => isSame(one, other)) === at,
  );
  return unique.flatMap((certificate): Finding[] => {
    const { validFromDate, validToDate } = certificate;
    const leftMs = validToDate.getTime() - nowMs;
    // Expired roots beside good ones are among the material's own warnings.
    if (leftMs <= 0 || leftMs >= (validToDate.getTime() - validFromDate.getTime()) * LEAST_SHARE_LEFT)
      return [];
    return [
      {
        level: 'warning',
        message: `${nameOf(certificate)} ends in ${Math.floor(leftMs / DAY_MS)} days, on ${validToDate.toISOString().slice(0, 10)}: less than a fifth of its life is left; culvert ca rehearse shows the steps of a rotation`,
      },
    ];
  });
}

function trustFindings(trust: readonly NamespaceTrust[]): Finding[] {
  return trust
    .filter(({ state }) => state !== 'current')
    .map(({ namespace, state, lacks, extra }) => ({
      level: lacks.length > 0 ? 'error' : 'warning',
      message:
        state === 'missing'
          ? `namespace ${namespace} has no ConfigMap istio-ca-root-cert: new proxies in it cannot verify the control plane`
          : `the roots of namespace ${namespace} are behind: ${[
              ...(lacks.length > 0 ? [`it lacks ${lacks.join(', ')}`] : []),
              ...(extra.length > 0 ? [`it still has ${extra.join(', ')}`] : []),
            ].join('; ')}`,
    }));
}

function proxyFacts({ proxy, node, certificates, without, problem }: ProxyHoldings): ProxyFacts {
  const signedBy: Record<string, number> = {};
  for (const { leaf } of certificates) {
    const signer = leaf.issuer.replaceAll('\n', ', ');
    signedBy[signer] = (signedBy[signer] ?? 0) + 1;
  }
  const first = certificates[0];
  const common = (first?.roots ?? []).filter((root) =>
    certificates.every(({ roots }) => roots.some((other) => isSame(root, other))),
  );
  const time = (pick: (...times: number[]) => number, of: (leaf: X509Certificate) => number) =>
    certificates.length === 0
      ? undefined
      : new Date(pick(...certificates.map(({ leaf }) => of(leaf)))).toISOString();
  return {
    proxy,
    node,
    certificates: certificates.length,
    firstEnd: time(Math.min, (leaf) => leaf.validToDate.getTime()),
    renewedBy: time(Math.max, halfLifeMs),
    signedBy,
    trusts: common.map(nameOf),
    without,
    problem,
  };
}

export const halfLifeMs = ({ validFromDate, validToDate }: X509Certificate): number =>
  (validFromDate.getTime() + validToDate.getTime()) / 2;

function holdingFindings(holdings: ProxyHoldings, { roots }: AuthorityMaterial, nowMs: number): Finding[] {
  const { proxy, certificates, without, problem } = holdings;
  const findings: Finding[] = [];
  const add = (level: Finding['level'], message: string): void => void findings.push({ level, message });
  if (problem !== undefined) add('warning', `${proxy} could not be asked: ${problem}`);
  for (const text of without) add('error', `${proxy} has no certificate for ${text}`);
  for (const { identity, leaf, chain } of certificates) {
    if (leaf.validToDate.getTime() <= nowMs)
      add('error', `${proxy}: the certificate of ${identity} expired at ${leaf.validToDate.toISOString()}`);
    else if (halfLifeMs(leaf) + OVERDUE_MS < nowMs)
      add('warning', `${proxy} has not renewed the certificate of ${identity}: its log says why`);
    if (!roots.some((root) => issuedBy(root, [leaf, ...chain])))
      add(
        'error',
        `${proxy}: the certificate of ${identity} leads to no published root: peers with renewed certificates refuse it`,
      );
  }
  for (const root of roots) {
    const unaware = certificates.filter(({ roots: trusted }) => !trusted.some((one) => isSame(one, root)));
    if (unaware.length > 0)
      add(
        'warning',
        `${proxy}: ${unaware.length} of ${certificates.length} certificates came before ${nameOf(root)} was published and do not trust it; the last is renewed by ${new Date(Math.max(...unaware.map(({ leaf }) => halfLifeMs(leaf)))).toISOString()}`,
      );
  }
  return findings;
}
