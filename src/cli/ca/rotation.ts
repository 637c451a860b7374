// A rotation of the self-signed root in the cluster, one step at a time: trust the new root beside the old one, sign with it,
// stop trusting the old one. Where it stands is written in the Secret; what must have come about before the next step is
// looked at in the cluster, not remembered.

import { X509Certificate } from 'node:crypto';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { SECRETS } from '#k8s/objects.ts';
import { isSame } from '#tls/authority-material.ts';
import { createAuthority } from '#tls/issue.ts';
import { certificateBlocks } from '#tls/pem.ts';
import { type ClusterAuthority, SELF_SIGNED_SECRET, secretTexts } from './authority.ts';
import type { ProxyHoldings } from './holdings.ts';
import { nameOf } from './names.ts';
import { organizationOf } from './next-authority.ts';
import { halfLifeMs } from './report.ts';
import type { NamespaceTrust } from './trust.ts';

const VALID_DAYS = 3650;
/** The next authority waits in the Secret for its turn; the control plane does not look at these keys. */
const NEXT_CERT = 'next-ca-cert.pem';
const NEXT_KEY = 'next-ca-key.pem';

export type RotationStep = 'add' | 'switch' | 'remove';

export interface RotationPlan {
  readonly step: RotationStep;
  /** The root that the step is about. */
  readonly root: string;
  readonly says: string;
  /** What must come about first. */
  readonly blockers: readonly string[];
  /** What is left to do afterwards. */
  readonly afterwards: string;
}

interface View {
  readonly authority: ClusterAuthority;
  readonly trust: readonly NamespaceTrust[];
  readonly holdings: readonly ProxyHoldings[];
}

const RENEW =
  'proxies renew at half of the life of their certificates, or at once when restarted: kubectl rollout restart -n istio-system daemonset/ztunnel';

/** @throws MeshError CONFIG_INVALID when the authority is not the self-signed one */
export function planRotation({ authority, trust, holdings }: View): RotationPlan {
  if (authority.source === 'plugged-in')
    throw new MeshError(
      'CONFIG_INVALID',
      'the authority is plugged in by Secret istio-system/cacerts: whoever made it makes its next one, too; write the steps that culvert ca rehearse --with shows into that Secret',
    );
  const { certificate, roots } = authority.material;
  const texts = secretTexts(authority.secret);
  const next = texts.get(NEXT_CERT);
  if (next !== undefined) return planSwitch(new X509Certificate(next), trust, holdings);
  const others = roots.filter((root) => !isSame(root, certificate));
  if (others.length > 0) return planRemove(certificate, others, holdings);
  return {
    step: 'add',
    root: nameOf(certificate),
    says: `A new root will be made and trusted beside ${nameOf(certificate)}, which goes on signing.`,
    blockers: [],
    afterwards: `wait until all proxies trust it (culvert ca shows who does not yet; ${RENEW}), then run culvert ca rotate again`,
  };
}

function planSwitch(
  next: X509Certificate,
  trust: readonly NamespaceTrust[],
  holdings: readonly ProxyHoldings[],
): RotationPlan {
  const trusts = (roots: readonly X509Certificate[]): boolean => roots.some((root) => isSame(root, next));
  return {
    step: 'switch',
    root: nameOf(next),
    says: `${nameOf(next)} will sign from now on; the old root stays trusted.`,
    blockers: [
      ...trust
        .filter(({ roots }) => !trusts(roots))
        .map(({ namespace }) => `namespace ${namespace} does not have the new root yet`),
      ...unasked(holdings),
      ...holdings.flatMap(({ proxy, certificates }) =>
        countOf(
          proxy,
          certificates.filter(({ roots }) => !trusts(roots)),
          'do not trust the new root yet',
        ),
      ),
    ],
    afterwards: `wait until all proxies hold certificates of the new root (${RENEW}), then run culvert ca rotate again`,
  };
}

function planRemove(
  signing: X509Certificate,
  others: readonly X509Certificate[],
  holdings: readonly ProxyHoldings[],
): RotationPlan {
  return {
    step: 'remove',
    root: others.map(nameOf).join(', '),
    says: `${others.map(nameOf).join(', ')} will no longer be trusted; only ${nameOf(signing)} stays.`,
    blockers: [
      ...unasked(holdings),
      ...holdings.flatMap(({ proxy, certificates }) =>
        countOf(
          proxy,
          certificates.filter(({ leaf }) => !leaf.verify(signing.publicKey)),
          'were not signed by the new root',
        ),
      ),
    ],
    afterwards: 'the rotation is done',
  };
}

const unasked = (holdings: readonly ProxyHoldings[]): string[] =>
  holdings.flatMap(({ proxy, problem }) =>
    problem === undefined ? [] : [`${proxy} could not be asked: ${problem}`],
  );

function countOf(proxy: string, some: readonly { readonly leaf: X509Certificate }[], what: string): string[] {
  if (some.length === 0) return [];
  const last = new Date(Math.max(...some.map(({ leaf }) => halfLifeMs(leaf)))).toISOString();
  return [`${proxy}: ${some.length} certificates ${what}; the last is renewed by ${last}`];
}

/** Writes the step. A Secret that somebody changed meanwhile is refused by the API server. */
export async function takeStep(
  client: Pick<KubeClient, 'update'>,
  { step }: RotationPlan,
  { secret, material }: ClusterAuthority,
): Promise<void> {
  const texts = secretTexts(secret);
  if (step === 'add') {
    const next = await createAuthority({ organization: organizationOf(material), validDays: VALID_DAYS });
    texts.set(NEXT_CERT, next.certPem);
    texts.set(NEXT_KEY, next.keyPem);
    texts.set('root-cert.pem', joined([...certificateBlocks(material.rootsPem), next.certPem]));
  } else if (step === 'switch') {
    texts.set('ca-cert.pem', texts.get(NEXT_CERT) ?? '');
    texts.set('ca-key.pem', texts.get(NEXT_KEY) ?? '');
    texts.delete(NEXT_CERT);
    texts.delete(NEXT_KEY);
  } else {
    texts.set('root-cert.pem', material.certificate.toString());
  }
  const data = Object.fromEntries(
    [...texts].map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
  );
  await client.update(SECRETS, { ...secret, data });
}

const joined = (blocks: readonly string[]): string => blocks.map((block) => `${block.trimEnd()}\n`).join('');

/** @throws MeshError REFUSED naming what has to come about first */
export function checkBlockers({ step, blockers, root }: RotationPlan): void {
  if (blockers.length === 0) return;
  throw new MeshError(
    'REFUSED',
    `step "${step}" of ${root} would break connections now: ${blockers.join('; ')}. Wait: ${RENEW}. Secret ${SELF_SIGNED_SECRET} was not changed`,
  );
}
