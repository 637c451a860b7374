// A rotation on a copy: the cluster's own authority and the trust of its proxies as they are, a next authority, and for each
// step real certificates and real handshakes between those that have renewed and those that have not. Nothing of it leaves
// this process; the cluster is only read.

import { X509Certificate } from 'node:crypto';
import type { SpiffeId } from '#model/identity.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type AuthorityMaterial, isSame } from '#tls/authority-material.ts';
import { requestFor } from '#tls/csr.ts';
import { type Authority, createAuthority, parseCsr } from '#tls/issue.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { readWorkloadSecret } from '#tls/workload-certificate.ts';
import { controlHandshake, meshHandshake } from './handshake.ts';
import type { ProxyHoldings } from './holdings.ts';
import { nameOf } from './names.ts';
import { halfLifeMs } from './report.ts';
import type { NamespaceTrust } from './trust.ts';

const ISTIOD = 'istiod.istio-system.svc';
const IDENTITY = 'spiffe://cluster.local/ns/sandbox/sa/rehearsal' as SpiffeId;
const LIFE_MS = 3_600_000;

export interface RehearsalInput {
  readonly today: AuthorityMaterial;
  readonly next: AuthorityMaterial;
  readonly trust: readonly NamespaceTrust[];
  readonly holdings: readonly ProxyHoldings[];
  /** One step instead of three. */
  readonly atOnce: boolean;
}

export interface Breakage {
  /** `between`: proxies of two generations; `control`: proxies and the control plane. */
  readonly kind: 'between' | 'control';
  readonly who: string;
  readonly reason: string;
}

export interface StepResult {
  readonly step: number;
  readonly title: string;
  readonly signer: string;
  readonly trusted: readonly string[];
  readonly handshakes: number;
  /** What fails although everybody has renewed before the step. */
  readonly broken: readonly Breakage[];
  /** What fails besides, if the step is taken while proxies still have what they had before an earlier one. */
  readonly tooEarly: readonly Breakage[];
}

export interface RehearsalResult {
  readonly steps: readonly StepResult[];
  /** When the last certificate that proxies hold now is due to be renewed. */
  readonly renewedBy: string | undefined;
  /** Certificates whose signer is not the cluster's: they cannot be copied. */
  readonly notCopied: readonly string[];
  readonly isSafe: boolean;
}

interface Stage {
  readonly title: string;
  readonly signer: Authority;
  readonly chain: readonly X509Certificate[];
  readonly name: string;
  readonly roots: readonly X509Certificate[];
}

interface Holder {
  readonly stage: number;
  readonly label: string;
  readonly secret: WorkloadSecret;
}

export async function rehearse(input: RehearsalInput): Promise<RehearsalResult> {
  const stages = await stagesOf(input);
  const seen = await seenHolders(stages[0] as Stage, input.holdings);
  const holders: Holder[][] = [seen.holders];
  const steps: StepResult[] = [];
  for (const [step, stage] of stages.entries()) {
    if (step > 0) holders.push([await holderOf(stage, step, `proxies renewed in step ${step}`, stage.roots)]);
    steps.push(await runStep(step, stages, holders, input.trust));
  }
  const ends = input.holdings.flatMap(({ certificates }) => certificates.map(({ leaf }) => halfLifeMs(leaf)));
  return {
    steps,
    renewedBy: ends.length === 0 ? undefined : new Date(Math.max(...ends)).toISOString(),
    notCopied: seen.notCopied,
    isSafe: steps.every(({ broken }) => broken.length === 0),
  };
}

async function stagesOf({ today, next, atOnce }: RehearsalInput): Promise<Stage[]> {
  const [old, renewed] = await Promise.all([copyOf(today), copyOf(next)]);
  const both = [
    ...today.roots,
    ...next.roots.filter((root) => !today.roots.some((one) => isSame(one, root))),
  ];
  const now: Stage = { title: 'as it is', ...old, roots: today.roots };
  const end: Stage = { title: 'the old root is removed', ...renewed, roots: next.roots };
  if (atOnce) return [now, { ...end, title: 'everything is replaced at once' }];
  return [
    now,
    { title: 'the new root is trusted beside the old one', ...old, roots: both },
    { title: 'the new authority signs', ...renewed, roots: both },
    end,
  ];
}

async function copyOf(material: AuthorityMaterial): Promise<Pick<Stage, 'signer' | 'chain' | 'name'>> {
  const certPem = material.certificate.toString();
  const signer = await createAuthority({ certPem, keyPem: material.keyPem, validDays: 1 });
  return { signer, chain: material.chain, name: nameOf(material.certificate) };
}

async function holderOf(
  { signer, chain }: Stage,
  stage: number,
  label: string,
  roots: readonly X509Certificate[],
): Promise<Holder> {
  const { csrPem, privateKey } = await requestFor(IDENTITY);
  const { certPem } = await signer.issue({
    uris: [IDENTITY],
    publicKey: parseCsr(csrPem).publicKeySpki,
    sanCritical: true,
    validForMs: LIFE_MS,
  });
  const answer = [certPem, ...pemsOf(chain), pemsOf(roots).join('')];
  return { stage, label, secret: readWorkloadSecret(IDENTITY, privateKey, answer, silentLogger) };
}

/** One for each set of roots that proxies trust now: with today's signer, as they hold its certificates. */
async function seenHolders(
  stage: Stage,
  holdings: readonly ProxyHoldings[],
): Promise<{ holders: Holder[]; notCopied: string[] }> {
  const sets = new Map<
    string,
    { readonly roots: readonly X509Certificate[]; readonly proxies: Set<string> }
  >();
  const notCopied: string[] = [];
  const signing = new X509Certificate(stage.signer.certPem);
  for (const { proxy, certificates } of holdings)
    for (const { identity, leaf, roots } of certificates) {
      if (!leaf.verify(signing.publicKey)) {
        notCopied.push(`${proxy}: ${identity}, signed by ${leaf.issuer.replaceAll('\n', ', ')}`);
        continue;
      }
      const key = roots
        .map((root) => root.fingerprint256)
        .sort()
        .join();
      const set = sets.get(key) ?? { roots, proxies: new Set<string>() };
      sets.set(key, set);
      set.proxies.add(proxy);
    }
  if (sets.size === 0)
    return { holders: [await holderOf(stage, 0, 'proxies as they are', stage.roots)], notCopied };
  const holders = await Promise.all(
    [...sets.values()].map(({ roots, proxies }) =>
      holderOf(
        stage,
        0,
        sets.size === 1 ? 'proxies as they are' : `${[...proxies].join(', ')} as now`,
        roots,
      ),
    ),
  );
  return { holders, notCopied };
}

async function runStep(
  step: number,
  stages: readonly Stage[],
  holders: readonly (readonly Holder[])[],
  trust: readonly NamespaceTrust[],
): Promise<StepResult> {
  const stage = stages[step] as Stage;
  const current = holders[step] ?? [];
  const broken: Breakage[] = [];
  const tooEarly: Breakage[] = [];
  let handshakes = 0;
  const meet = async (client: Holder, server: Holder, into: Breakage[]): Promise<void> => {
    handshakes += 1;
    const reason = await meshHandshake(client.secret, server.secret);
    if (reason !== undefined)
      into.push({ kind: 'between', who: `${client.label} → ${server.label}`, reason });
  };
  for (const holder of holders.flat()) {
    const into = holder.stage >= step - 1 ? broken : tooEarly;
    for (const other of current) {
      await meet(holder, other, into);
      if (holder !== other && holder.stage !== step) await meet(other, holder, into);
    }
  }
  const dial = async (who: string, roots: readonly X509Certificate[], into: Breakage[]): Promise<void> => {
    handshakes += 1;
    const reason = await controlHandshake(pemsOf(roots).join(''), await servingOf(stage));
    if (reason !== undefined) into.push({ kind: 'control', who: `${who} → control plane`, reason });
  };
  // A namespace that is behind now may stay so: nobody has looked why.
  for (const { namespace, roots, state } of trust)
    if (state !== 'current') await dial(`proxies in ${namespace}, whose roots are ${state}`, roots, broken);
  if (step > 0) {
    await dial('proxies with the roots of the step before', (stages[step - 1] as Stage).roots, broken);
    if (step > 1) await dial('proxies with the roots of now', (stages[0] as Stage).roots, tooEarly);
  }
  await dial('proxies with the roots of this step', stage.roots, broken);
  return {
    step,
    title: stage.title,
    signer: stage.name,
    trusted: stage.roots.map(nameOf),
    handshakes,
    broken,
    tooEarly,
  };
}

async function servingOf({ signer, chain }: Stage) {
  const { certPem, keyPem = '' } = await signer.issue({
    dnsNames: [ISTIOD],
    server: true,
    validForMs: LIFE_MS,
  });
  return { certPem: certPem + pemsOf(chain).join(''), keyPem, host: ISTIOD };
}

const pemsOf = (certificates: readonly X509Certificate[]): string[] =>
  certificates.map((certificate) => certificate.toString());
