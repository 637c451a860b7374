// The verdict over an inbound connection, first and again on every change, from the state as it stands now.

import { MeshError } from '#base/errors.ts';
import { authorize } from '#model/authorize.ts';
import type { Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Denial, InboundSubject, Judge } from './connections.ts';

export interface JudgeDeps {
  readonly store: Store;
  readonly log: Logger;
  /** Verdicts are logged at info instead of debug (`AUTHZ_POLICY_INFO_LOGGING`). */
  readonly policyInfoLogging?: boolean;
}

/**
 * `localWorkload` gives the pod's record as it stands. A pod whose record is gone is judged by nothing here: its removal
 * comes over ZDS and ends its connections anyway.
 */
export function createJudge(deps: JudgeDeps, localWorkload: (podUid: string) => Workload | undefined): Judge {
  return (subject) => {
    const local = localWorkload(subject.podUid);
    return local === undefined ? undefined : judge(deps, local, subject);
  };
}

export function judge(
  { store, log, policyInfoLogging }: JudgeDeps,
  local: Workload,
  subject: InboundSubject,
): Denial | undefined {
  const policies = store.policiesFor(local, (policy) =>
    log.warn('an attached policy is not known yet and is skipped', { policy, workload: local.uid }),
  );
  const verdict = authorize(policies, {
    sourceIp: subject.source.ip,
    identity: subject.sourceIdentity,
    destination: subject.destination,
  });
  const level = policyInfoLogging === true ? 'info' : 'debug';
  if (log.enabled(level)) {
    log[level]('policy verdict', {
      verdict: verdict.verdict,
      reason: verdict.reason,
      explain: verdict.explain,
      source: subject.sourceIdentity,
    });
    for (const note of verdict.dryRun) log[level]('dry-run policy', { explain: note.explain });
  }
  if (verdict.verdict === 'allow') return undefined;
  const { explain, policy, rule, clause } = verdict;
  return {
    explain,
    where: {
      ...(policy === undefined ? {} : { policy }),
      ...(rule === undefined ? {} : { rule }),
      ...(clause === undefined ? {} : { clause }),
    },
  };
}

/** As the field words a refusal by policy; the details stand in the access log beside it. */
export function policyRejection(denial: Denial): MeshError {
  return new MeshError('POLICY_DENIED', `connection closed due to policy rejection: ${denial.explain}`, {
    details: denial.where,
  });
}
