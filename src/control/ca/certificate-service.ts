// CreateCertificate: who asks, in whose name, may they, sign (control-plane.md §5.1–5.3). Every outcome is one line in
// the audit log. Names come from the caller's identity or from the one it may stand for; a request that names another one is
// refused.

import type { Clock } from '#base/clock.ts';
import { type ErrorDetails, MeshError, reasonOf } from '#base/errors.ts';
import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import type { Logger } from '#telemetry/log.ts';
import { type ParsedCsr, parseCsr } from '#tls/issue.ts';
import { authorizeNode, type NodeAuthorization } from './node-authorization.ts';
import type { PodView } from './pod-view.ts';
import type { Signer } from './signer.ts';
import type { Caller, TokenReviewer } from './token-review.ts';

export interface CertificateRequest {
  readonly token: string | undefined;
  /** Metadata `clusterid`; empty or our own. */
  readonly clusterId: string;
  readonly csrPem: string;
  readonly ttlSeconds: number;
  /** The identity that a node proxy asks for in place of its own. */
  readonly impersonated: string | undefined;
}

export type CertificateStatus = 'UNAUTHENTICATED' | 'INVALID_ARGUMENT' | 'INTERNAL' | 'UNAVAILABLE';

/** An RSA key of 8192 bits needs 3 KB; what is longer is not looked at. */
const MAX_CSR_BYTES = 16 * 1024;
/** SPIFFE-ID §2.3. */
const MAX_IDENTITY_LENGTH = 2048;

export interface CertificateServiceDeps {
  readonly signer: () => Signer;
  readonly review: TokenReviewer;
  readonly pods: PodView;
  /** Asked once before a refusal that a newer pod could change. */
  readonly freshPods: (namespaces: readonly string[]) => Promise<PodView>;
  readonly clock: Clock;
  readonly log: Logger;
  /** `reason` is undefined when it was signed. */
  readonly onAnswer?: (reason: string | undefined, tookSeconds: number) => void;
}

export interface CertificateServiceOptions {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly trustedAccounts: ReadonlySet<string>;
  readonly defaultTtlSeconds: number;
  readonly maxTtlSeconds: number;
}

/** One PEM certificate per element, leaf first; the last element is the root bundle. */
export type CertificateChain = readonly string[];

/** Rejects with MeshError `CA_REFUSED`, details `{status, reason}`; `status` is a CertificateStatus. */
export type CertificateService = (request: CertificateRequest) => Promise<CertificateChain>;

export function createCertificateService(
  deps: CertificateServiceDeps,
  options: CertificateServiceOptions,
): CertificateService {
  const audit = deps.log.scoped('ca');

  async function sign(request: CertificateRequest, trail: AuditTrail): Promise<CertificateChain> {
    if (request.clusterId !== '' && request.clusterId !== options.clusterId)
      throw refusal('UNAUTHENTICATED', 'unknown-cluster', `cluster ${request.clusterId} is not known here`);
    const caller = await authenticate(request.token);
    trail.caller = `${caller.namespace}/${caller.serviceAccount}`;
    trail.callerPod = caller.pod?.name;
    const identity = await identityFor(caller, request.impersonated, trail);
    trail.identity = identity;
    const csr = readCsr(request.csrPem, identity);
    const ttlSeconds = ttlOf(request.ttlSeconds);
    return issue(identity, csr, ttlSeconds, trail);
  }

  async function authenticate(token: string | undefined): Promise<Caller> {
    let review: Awaited<ReturnType<TokenReviewer>>;
    try {
      review = await deps.review(token);
    } catch (error) {
      // Not the caller's fault: "unavailable" makes it try again instead of giving up its identity.
      throw refusal(
        'UNAVAILABLE',
        'review-failed',
        `the token could not be reviewed: ${reasonOf(error)}`,
        error,
      );
    }
    if (review.kind === 'refused') throw refusal('UNAUTHENTICATED', review.reason, review.explain);
    return review.caller;
  }

  async function identityFor(
    caller: Caller,
    impersonated: string | undefined,
    trail: AuditTrail,
  ): Promise<SpiffeId> {
    if (impersonated === undefined || impersonated === '')
      return formatSpiffeId({ ...caller, trustDomain: options.trustDomain });
    if (impersonated.length > MAX_IDENTITY_LENGTH)
      throw refusal(
        'UNAUTHENTICATED',
        'identity-malformed',
        `the identity asked for has ${impersonated.length} characters, more than ${MAX_IDENTITY_LENGTH}`,
      );
    trail.requested = impersonated;
    const decision = await decideNode(caller, impersonated);
    if (decision.verdict === 'refuse') throw refusal('UNAUTHENTICATED', decision.reason, decision.explain);
    trail.node = decision.node;
    return formatSpiffeId(decision.identity);
  }

  async function decideNode(caller: Caller, impersonated: string): Promise<NodeAuthorization> {
    const decision = authorizeNode(caller, impersonated, deps.pods, options);
    if (decision.verdict === 'allow' || !decision.viewDependent) return decision;
    // A pod that was just scheduled may not have reached the informer.
    const requestedNamespace = /\/ns\/([^/]+)\/sa\//.exec(impersonated)?.[1] ?? caller.namespace;
    try {
      const fresh = await deps.freshPods([caller.namespace, requestedNamespace]);
      return authorizeNode(caller, impersonated, fresh, options);
    } catch (error) {
      audit.warn('no fresh view of the pods', { error: reasonOf(error) });
      return decision;
    }
  }

  function ttlOf(requestedSeconds: number): number {
    if (requestedSeconds <= 0) return options.defaultTtlSeconds;
    if (requestedSeconds > options.maxTtlSeconds)
      throw refusal(
        'INVALID_ARGUMENT',
        'ttl-too-long',
        `a life of ${requestedSeconds} s is longer than the ${options.maxTtlSeconds} s allowed`,
      );
    return requestedSeconds;
  }

  async function issue(
    identity: SpiffeId,
    csr: ParsedCsr,
    ttlSeconds: number,
    trail: AuditTrail,
  ): Promise<CertificateChain> {
    const signer = deps.signer();
    // Nobody accepts a leaf below an authority that has ended, wherever in the chain it stands.
    const validForMs = Math.min(ttlSeconds * 1000, signer.notAfter.getTime() - deps.clock.now());
    if (validForMs <= 0)
      throw refusal(
        'INTERNAL',
        'signing-failed',
        `the chain of ${signer.title} ended at ${signer.notAfter.toISOString()}; renew it`,
      );
    // A subject only if the request had one, and then with the identity's text: X.520 allows 64 characters.
    const withName = csr.commonName !== undefined && Buffer.byteLength(identity) <= 64;
    try {
      const { certPem, serialNumber } = await signer.authority.issue({
        uris: [identity],
        publicKey: csr.publicKeySpki,
        validForMs,
        sanCritical: true,
        ...(withName ? { commonName: identity } : {}),
      });
      trail.serial = serialNumber;
      trail.notAfter = new Date(deps.clock.now() + validForMs).toISOString();
      return [certPem, ...signer.chainPem, signer.rootsPem];
    } catch (error) {
      throw refusal('INTERNAL', 'signing-failed', `signing failed: ${reasonOf(error)}`, error);
    }
  }

  return async (request) => {
    const trail: AuditTrail = {};
    const startedMs = deps.clock.monotonicMs();
    const answered = (reason?: string): void =>
      deps.onAnswer?.(reason, (deps.clock.monotonicMs() - startedMs) / 1000);
    try {
      const chain = await sign(request, trail);
      audit.info('certificate signed', { ...trail });
      answered();
      return chain;
    } catch (error) {
      const failure = MeshError.from(error, 'CA_REFUSED', 'signing failed');
      const reason = String(failure.details.reason ?? 'internal');
      audit.warn('certificate refused', { ...trail, reason, explain: failure.message });
      answered(reason);
      throw failure;
    }
  };
}

/** What is known about a request so far, for its audit line. */
interface AuditTrail {
  caller?: string | undefined;
  callerPod?: string | undefined;
  requested?: string | undefined;
  identity?: string;
  node?: string;
  serial?: string;
  notAfter?: string;
}

function readCsr(pem: string, identity: SpiffeId): ParsedCsr {
  const bytes = Buffer.byteLength(pem);
  if (bytes > MAX_CSR_BYTES)
    throw refusal(
      'INVALID_ARGUMENT',
      'csr-too-large',
      `the certificate request has ${bytes} bytes, more than ${MAX_CSR_BYTES}`,
    );
  let csr: ParsedCsr;
  try {
    csr = parseCsr(pem);
  } catch (error) {
    throw refusal('INVALID_ARGUMENT', 'bad-csr', reasonOf(error), error);
  }
  if (!csr.signatureValid)
    throw refusal(
      'INVALID_ARGUMENT',
      'bad-csr-signature',
      'the certificate request is not signed by its own key',
    );
  if (csr.keyWeakness !== undefined)
    throw refusal(
      'INVALID_ARGUMENT',
      'weak-key',
      `the certificate request has a weak key: ${csr.keyWeakness}`,
    );
  const others = [...csr.uris.filter((uri) => uri !== identity), ...csr.otherNames];
  if (others.length > 0)
    throw refusal(
      'INVALID_ARGUMENT',
      'csr-name-mismatch',
      `the certificate request names ${others.slice(0, 3).join(', ')}; this caller may have ${identity} and nothing else`,
    );
  return csr;
}

function refusal(status: CertificateStatus, reason: string, message: string, cause?: unknown): MeshError {
  const details: ErrorDetails = { status, reason };
  return new MeshError('CA_REFUSED', message, { details, ...(cause === undefined ? {} : { cause }) });
}
