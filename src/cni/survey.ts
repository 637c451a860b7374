// What is really the case with the node's pods: asked of their namespaces when the agent starts, when a runtime checks a
// pod, and for the counts of who is captured.

import { MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import { closeFd } from '#linux/netns.ts';
import { type Eligibility, isTerminal, podIps, redirectionOf } from './decision.ts';
import { infoOf, uidOf } from './enrolment.ts';
import type { FindNetns } from './netns-finder.ts';
import { podRuleOptions, type RuleDefaults } from './pod-overrides.ts';
import type { PodTable } from './pod-table.ts';
import type { ObservedPod } from './protection.ts';
import type { PodRules } from './rules/pod-rules.ts';

export interface SurveyDeps {
  readonly table: PodTable;
  readonly rules: Pick<PodRules, 'state'>;
  readonly findNetns: FindNetns;
  readonly eligible: (pod: Pod) => Eligibility;
}

export interface Survey {
  /**
   * Takes the pod up as enrolled if it says so, or if its namespace does, even when it should not be any more: what is
   * redirected goes on while the pod leaves. False: it is nobody of ours yet.
   */
  adopt(pod: Pod): Promise<boolean>;
  /** Resolves if the pod is as its labels want it. @throws MeshError `CNI_REFUSED` saying what is missing. */
  check(pod: Pod): Promise<void>;
  /** The pods of the mesh among these that have an address, with the reason of the last failure. */
  observe(pods: ReadonlyMap<string, Pod>, failures: ReadonlyMap<string, string>): Generator<ObservedPod>;
}

export function createSurvey(deps: SurveyDeps, defaults: RuleDefaults): Survey {
  const { table, rules, findNetns, eligible } = deps;

  /** The namespace itself is asked: an annotation may have been lost, or never been written. */
  async function isRedirected(pod: Pod, netnsFd: number | undefined): Promise<boolean> {
    if (netnsFd === undefined) return false;
    const { options } = podRuleOptions(pod.metadata.annotations, defaults);
    return (await rules.state(netnsFd, options)) !== 'none';
  }

  return {
    async adopt(pod) {
      if (isTerminal(pod)) return false;
      const uid = uidOf(pod);
      const ips = podIps(pod);
      const fd = findNetns(uid, ips);
      if (redirectionOf(pod) !== 'enabled' && !(await isRedirected(pod, fd))) {
        if (fd !== undefined) closeFd(fd);
        return false;
      }
      const entry = table.ensure(uid, infoOf(pod), redirectionOf(pod));
      entry.ips = ips;
      if (fd !== undefined) table.setNetns(entry, fd);
      return true;
    },

    async check(pod) {
      if (!eligible(pod).enrol) return;
      const entry = table.entry(uidOf(pod));
      const isCaptured = await isRedirected(pod, entry?.netnsFd);
      if (entry?.stage === 'done' && isCaptured) return;
      const missing = isCaptured ? 'its ztunnel does not serve it' : 'its traffic is not redirected';
      const { namespace = 'default', name } = pod.metadata;
      throw new MeshError('CNI_REFUSED', `pod ${namespace}/${name} belongs to the mesh, but ${missing}`);
    },

    *observe(pods, failures) {
      for (const [uid, pod] of pods) {
        const entry = table.entry(uid);
        const hasAddress = entry !== undefined || podIps(pod).length > 0;
        if (!eligible(pod).enrol || isTerminal(pod) || !hasAddress) continue;
        const { namespace = 'default', name } = pod.metadata;
        const isServed = entry?.stage === 'done';
        const protection = entry?.isCaptured !== true ? 'unprotected' : isServed ? 'captured' : 'waiting';
        const reason = failures.get(uid);
        yield { uid, namespace, name, protection, ...(reason === undefined ? {} : { reason }) };
      }
    },
  };
}
