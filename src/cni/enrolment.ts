// The two sequences (cni.md A.4.4, A.4.5). Adding: namespace, rules, ztunnel's ack, probes on the node, annotation last,
// because peers start to speak HBONE when they see it. Removing: the other way round. Every step may be repeated.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { closeFd, type NetnsId, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { ZdsWorkloadInfo } from '#proto/zds.ts';
import type { Logger } from '#telemetry/log.ts';
import { REDIRECTION_ANNOTATION } from './constants.ts';
import { redirectionOf } from './decision.ts';
import type { FindNetns } from './netns-finder.ts';
import { podRuleOptions, type RuleDefaults } from './pod-overrides.ts';
import type { PodTable, TableEntry } from './pod-table.ts';
import type { HostProbes } from './rules/host-probes.ts';
import type { PodRules } from './rules/pod-rules.ts';
import type { ZdsServer } from './zds-server.ts';

export interface EnrolmentDeps {
  readonly table: PodTable;
  readonly rules: PodRules;
  readonly probes: HostProbes;
  readonly zds: Pick<ZdsServer, 'add' | 'del'>;
  readonly client: Pick<KubeClient, 'patch'>;
  readonly findNetns: FindNetns;
  /** The agent's own namespace: no pod's, ever. */
  readonly hostNetns: NetnsId;
  readonly log: Logger;
}

export interface AddOptions {
  /** Given by the runtime; searched for otherwise. */
  readonly netnsPath?: string;
  /** How long to wait for a ztunnel when none is connected. */
  readonly waitForZtunnelMs?: number;
}

export interface Enrolment {
  /** @throws MeshError; what was done stays done, and the next call goes on from there. */
  add(pod: Pod, ips: readonly IpAddress[], options?: AddOptions): Promise<void>;
  /** `pod` undefined: it no longer exists. `podEnded`: its namespace goes with it. */
  remove(uid: string, pod: Pod | undefined, podEnded: boolean): Promise<void>;
  /** The pod's addresses changed while it was enrolled. */
  setAddresses(uid: string, ips: readonly IpAddress[]): Promise<void>;
  /** Marks a pod for a new `add` if its rules, its sandbox or its annotation are not what was left there. */
  verify(uid: string, pod: Pod | undefined): Promise<void>;
  /** Takes out rules that an agent before us left in a pod outside the mesh. */
  cleanLeftovers(uid: string, pod: Pod): Promise<void>;
}

export function createEnrolment(deps: EnrolmentDeps, defaults: RuleDefaults): Enrolment {
  const { table, rules, probes, zds, client, findNetns, hostNetns, log } = deps;

  function holdNetns(pod: Pod, entry: TableEntry, path: string | undefined): number {
    if (path === undefined && entry.netnsFd !== undefined) return entry.netnsFd;
    const fd = path === undefined ? findNetns(entry.uid) : openNetns(path);
    if (fd === undefined)
      throw new MeshError(
        'NETNS_GONE',
        `the network namespace of pod ${nameOf(pod)} was not found on this node`,
      );
    if (sameNetns(netnsId(fd), hostNetns)) {
      closeFd(fd);
      throw new MeshError(
        'CNI_REFUSED',
        `pod ${nameOf(pod)} runs in the node's own network namespace and cannot be enrolled`,
      );
    }
    table.setNetns(entry, fd);
    return entry.netnsFd ?? fd;
  }

  async function annotate(pod: Pod, entry: TableEntry, value: 'enabled' | 'pending'): Promise<void> {
    if (entry.annotation === value) return;
    await patchAnnotation(pod, value);
    entry.annotation = value;
  }

  async function patchAnnotation(pod: Pod, value: string | null): Promise<void> {
    const { name, namespace } = pod.metadata;
    // The uid makes the write fail on another pod that has the name by now.
    const uid = pod.metadata.uid;
    const metadata = {
      ...(uid === undefined ? {} : { uid }),
      annotations: { [REDIRECTION_ANNOTATION]: value },
    };
    await client.patch(
      PODS,
      name,
      'merge',
      { metadata },
      { subresource: 'status', ...(namespace === undefined ? {} : { namespace }) },
    );
  }

  /** The pod is captured but not served: say so, unless peers were already told that it is (agent restart). */
  async function annotatePending(pod: Pod, entry: TableEntry): Promise<void> {
    if (entry.annotation === 'enabled') return;
    try {
      await annotate(pod, entry, 'pending');
    } catch (error) {
      log.debug('the pending state could not be written', { ...fieldsOf(pod), error: reasonOf(error) });
    }
  }

  return {
    async add(pod, ips, options = {}) {
      const uid = uidOf(pod);
      const isNew = table.entry(uid) === undefined;
      const entry = table.ensure(uid, infoOf(pod), redirectionOf(pod));
      if (entry.stage === 'removing') entry.stage = 'partial';
      const overrides = podRuleOptions(pod.metadata.annotations, defaults);
      for (const reason of overrides.ignored) log.warn('pod setting ignored', { ...fieldsOf(pod), reason });
      let netnsFd: number;
      try {
        netnsFd = holdNetns(pod, entry, options.netnsPath);
        await rules.apply(netnsFd, overrides.options);
      } catch (error) {
        // Not captured: it must not be announced either.
        if (isNew) table.drop(uid);
        throw error;
      }
      entry.ips = ips;
      try {
        await zds.add({ uid, info: entry.info, netnsFd }, options.waitForZtunnelMs);
        await probes.set(uid, ips);
      } catch (error) {
        await annotatePending(pod, entry);
        throw error;
      }
      await annotate(pod, entry, 'enabled');
      entry.stage = 'done';
      log.info('pod added to the mesh', { ...fieldsOf(pod), uid });
      const open = defaults.ipv6 ? undefined : ips.find((ip) => familyOf(ip) === 6);
      if (open !== undefined)
        log.warn(
          'the IPv6 traffic of this pod is not captured: it passes in plaintext and no policy of the mesh holds for it; set AMBIENT_IPV6=true',
          { ...fieldsOf(pod), ip: open },
        );
    },

    async remove(uid, pod, podEnded) {
      const entry = table.entry(uid);
      if (entry !== undefined) entry.stage = 'removing';
      await probes.remove(uid);
      if (!podEnded) await takeRulesOut(uid, entry);
      await zds.del(uid);
      if (pod !== undefined) {
        try {
          await patchAnnotation(pod, null);
        } catch (error) {
          // The pod may end at any moment; then nobody reads its annotation.
          if (!podEnded && !isNotFound(error)) throw error;
        }
      }
      table.drop(uid);
      log.info('pod removed from the mesh', pod === undefined ? { uid } : { ...fieldsOf(pod), uid });
    },

    async setAddresses(uid, ips) {
      await probes.set(uid, ips);
      const entry = table.entry(uid);
      if (entry !== undefined) entry.ips = ips;
    },

    async verify(uid, pod) {
      const entry = table.entry(uid);
      if (entry?.stage !== 'done' || entry.netnsFd === undefined) return;
      const fd = findNetns(uid);
      const isMoved = fd !== undefined && table.setNetns(entry, fd) === 'changed';
      const annotation = pod === undefined ? entry.annotation : redirectionOf(pod);
      if (!isMoved && annotation === 'enabled' && (await rules.present(entry.netnsFd))) return;
      log.warn('an enrolled pod had lost its state; restoring it', { ...(pod && fieldsOf(pod)), uid });
      entry.annotation = annotation;
      entry.stage = 'partial';
    },

    async cleanLeftovers(uid, pod) {
      if (pod.spec.hostNetwork === true) return;
      const fd = findNetns(uid);
      if (fd === undefined) return;
      try {
        if (!(await rules.present(fd))) return;
        await rules.remove(fd, defaults);
        log.info('rules left behind in a pod outside the mesh were removed', { ...fieldsOf(pod), uid });
      } finally {
        closeFd(fd);
      }
    },
  };

  async function takeRulesOut(uid: string, entry: TableEntry | undefined): Promise<void> {
    if (entry?.netnsFd !== undefined) return rules.remove(entry.netnsFd, defaults);
    const fd = findNetns(uid);
    if (fd === undefined) return;
    try {
      await rules.remove(fd, defaults);
    } finally {
      closeFd(fd);
    }
  }
}

export function uidOf(pod: Pod): string {
  const { uid } = pod.metadata;
  if (uid === undefined) throw new TypeError(`pod ${nameOf(pod)} has no uid`);
  return uid;
}

export function infoOf(pod: Pod): ZdsWorkloadInfo {
  const { name, namespace = 'default' } = pod.metadata;
  const { serviceAccountName } = pod.spec;
  return { name, namespace, serviceAccount: serviceAccountName || 'default' };
}

const nameOf = (pod: Pod): string => `${pod.metadata.namespace ?? 'default'}/${pod.metadata.name}`;

const fieldsOf = (pod: Pod): { ns: string; name: string } => ({
  ns: pod.metadata.namespace ?? 'default',
  name: pod.metadata.name,
});
