// The two sequences (cni.md A.4.4, A.4.5); every step may be repeated.
//
// Adding a new pod: namespace, rules, ztunnel's ack, probes on the node, annotation last, because peers start to speak
// HBONE when they see it. A pod that already runs gets its rules after ztunnel listens and the probes are let through,
// so that none of its connections meets a closed door; those it has open stay as they are (rules/older-connections.ts).
//
// Removing: annotation, redirection of new connections, a time for the redirected ones to end, then everything else.

import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { closeFd, type NetnsId, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { ZdsWorkloadInfo } from '#proto/zds.ts';
import type { Logger } from '#telemetry/log.ts';
import type { BranchEni } from './branch-eni.ts';
import { REDIRECTION_ANNOTATION } from './constants.ts';
import { podIps, redirectionOf } from './decision.ts';
import type { FindNetns } from './netns-finder.ts';
import type { OlderConnectionCalls } from './older-watch.ts';
import { podRuleOptions, type RuleDefaults } from './pod-overrides.ts';
import type { PodTable, TableEntry } from './pod-table.ts';
import type { HostProbes } from './rules/host-probes.ts';
import type { PodRuleOptions } from './rules/nft.ts';
import type { PodRules } from './rules/pod-rules.ts';
import type { ZdsServer } from './zds-server.ts';

export interface EnrolmentSettings extends RuleDefaults {
  /** How long redirected connections of a pod that leaves the mesh may go on. */
  readonly drainMs: number;
}

export interface EnrolmentDeps {
  readonly table: PodTable;
  readonly rules: PodRules;
  readonly probes: HostProbes;
  /** Absent where pods cannot have branch interfaces. */
  readonly branchEni?: BranchEni | undefined;
  readonly zds: Pick<ZdsServer, 'add' | 'del'>;
  readonly client: Pick<KubeClient, 'patch'>;
  readonly findNetns: FindNetns;
  /** The agent's own namespace: no pod's, ever. */
  readonly hostNetns: NetnsId;
  readonly older: Pick<OlderConnectionCalls, 'forgetFormer' | 'forgetEnded' | 'keep' | 'served' | 'cut'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
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
  /**
   * `pod` undefined: it no longer exists. `podEnded`: its namespace goes with it. `draining`: redirected connections are
   * still open; to be called again a little later.
   */
  remove(uid: string, pod: Pod | undefined, podEnded: boolean): Promise<'removed' | 'draining'>;
  /** The pod's addresses changed while it was enrolled. */
  setAddresses(uid: string, ips: readonly IpAddress[]): Promise<void>;
  /** Marks a pod for a new `add` if its rules (or, with `all`, its sandbox or its annotation) are not what was left there. */
  verify(uid: string, pod: Pod | undefined, what: 'rules' | 'all'): Promise<void>;
  /** Takes out rules that an agent before us left in a pod outside the mesh. */
  cleanLeftovers(uid: string, pod: Pod): Promise<void>;
}

export function createEnrolment(deps: EnrolmentDeps, settings: EnrolmentSettings): Enrolment {
  const { table, rules, probes, branchEni, zds, client, findNetns, hostNetns, older, clock, log } = deps;

  function holdNetns(pod: Pod, entry: TableEntry, path: string | undefined): number {
    if (path === undefined && entry.netnsFd !== undefined) return entry.netnsFd;
    const fd = path === undefined ? findNetns(entry.uid, podIpsOf(pod, entry)) : openNetns(path);
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
      log.debug('the pending state could not be written', { ...namesOf(pod), error: reasonOf(error) });
    }
  }

  return {
    async add(pod, ips, options = {}) {
      const uid = uidOf(pod);
      const isNew = table.entry(uid) === undefined;
      const entry = table.ensure(uid, infoOf(pod), redirectionOf(pod));
      if (entry.stage === 'removing' || entry.stage === 'draining') entry.stage = 'partial';
      const overrides = podRuleOptions(pod.metadata.annotations, settings);
      for (const reason of overrides.ignored) log.warn('pod setting ignored', { ...namesOf(pod), reason });
      const serve = async (): Promise<void> => {
        await zds.add({ uid, info: entry.info, netnsFd }, options.waitForZtunnelMs);
        await letProbesPass(uid, ips);
      };
      let netnsFd: number;
      let isOpen: boolean;
      try {
        netnsFd = holdNetns(pod, entry, options.netnsPath);
        // A pod that runs, and that nobody was told is in the mesh: it goes on as it was until everything stands.
        isOpen =
          options.netnsPath === undefined &&
          entry.annotation !== 'enabled' &&
          (await rules.state(netnsFd, overrides.options)) === 'none';
        if (!isOpen) await rules.apply(netnsFd, overrides.options);
        entry.isCaptured = !isOpen;
        // A new pod has not spoken yet.
        if (options.netnsPath !== undefined) entry.mayHaveOlder = false;
      } catch (error) {
        // Not captured: it must not be announced either.
        if (isNew) table.drop(uid);
        throw error;
      }
      entry.ips = ips;
      try {
        await serve();
        if (isOpen) await captureRunning(pod, entry, netnsFd, overrides.options);
      } catch (error) {
        await annotatePending(pod, entry);
        throw error;
      }
      await annotate(pod, entry, 'enabled');
      entry.stage = 'done';
      log.info('pod added to the mesh', { ...namesOf(pod), uid });
      const open = settings.ipv6 ? undefined : ips.find((ip) => familyOf(ip) === 6);
      if (open !== undefined)
        log.warn(
          'the IPv6 traffic of this pod is not captured: it passes in plaintext and no policy of the mesh holds for it; set AMBIENT_IPV6=true',
          { ...namesOf(pod), ip: open },
        );
    },

    async remove(uid, pod, podEnded) {
      const entry = table.entry(uid);
      if (!podEnded && entry !== undefined && (await drain(entry, pod))) return 'draining';
      if (entry !== undefined) entry.stage = 'removing';
      branchEni?.remove(uid);
      await allDone(probes.remove(uid), letGo(uid, entry, podEnded));
      if (pod !== undefined && entry?.annotation !== 'absent') await unannotate(pod, podEnded);
      table.drop(uid);
      log.info('pod removed from the mesh', { ...namesOf(pod), uid });
      return 'removed';
    },

    async setAddresses(uid, ips) {
      await letProbesPass(uid, ips);
      const entry = table.entry(uid);
      if (entry !== undefined) entry.ips = ips;
    },

    async verify(uid, pod, what) {
      const entry = table.entry(uid);
      if (entry?.stage !== 'done' || entry.netnsFd === undefined) return;
      if (what === 'rules' && (await rulesStand(entry.netnsFd, pod))) return;
      const fd = findNetns(uid, entry.ips);
      const isMoved = fd !== undefined && table.setNetns(entry, fd) === 'changed';
      const annotation = pod === undefined ? entry.annotation : redirectionOf(pod);
      if (!isMoved && annotation === 'enabled' && (await rulesStand(entry.netnsFd, pod))) return;
      log.warn('an enrolled pod had lost its state; restoring it', { ...namesOf(pod), uid });
      entry.annotation = annotation;
      entry.stage = 'partial';
      entry.isCaptured = false;
    },

    async cleanLeftovers(uid, pod) {
      if (pod.spec.hostNetwork === true) return;
      const fd = findNetns(uid, podIps(pod));
      if (fd === undefined) return;
      try {
        const { options } = podRuleOptions(pod.metadata.annotations, settings);
        if ((await rules.state(fd, options)) === 'none') return;
        await rules.release(fd, settings);
        await cutAndRemove(fd);
        log.info('rules left behind in a pod outside the mesh were removed', { ...namesOf(pod), uid });
      } finally {
        closeFd(fd);
      }
    },
  };

  async function captureRunning(
    pod: Pod,
    entry: TableEntry,
    netnsFd: number,
    options: PodRuleOptions,
  ): Promise<void> {
    older.forgetFormer(netnsFd);
    await rules.track(netnsFd, options);
    const kept = older.keep(netnsFd);
    entry.mayHaveOlder = kept > 0;
    await rules.steer(netnsFd, options);
    entry.isCaptured = true;
    if (kept > 0)
      log.info('connections older than the enrolment go on past ztunnel', { ...namesOf(pod), kept });
  }

  async function letProbesPass(uid: string, ips: readonly IpAddress[]): Promise<void> {
    await probes.set(uid, ips);
    branchEni?.set(uid, ips);
  }

  async function rulesStand(netnsFd: number, pod: Pod | undefined): Promise<boolean> {
    const { options } = podRuleOptions(pod?.metadata.annotations, settings);
    return (await rules.state(netnsFd, options)) === 'steering';
  }

  /** Peers are told first, then new connections go their own way; true while redirected ones are open. */
  async function drain(entry: TableEntry, pod: Pod | undefined): Promise<boolean> {
    const { netnsFd } = entry;
    if (netnsFd === undefined) return false;
    if (pod !== undefined && entry.annotation !== 'absent') {
      await unannotate(pod, false);
      entry.annotation = 'absent';
    }
    if (entry.stage !== 'draining' && entry.stage !== 'removing') {
      await rules.release(netnsFd, settings);
      entry.isCaptured = false;
      entry.stage = 'draining';
      entry.drainUntilMs = clock.monotonicMs() + settings.drainMs;
    }
    const open = entry.stage === 'draining' ? older.served(netnsFd) : 0;
    if (open === 0) {
      older.forgetEnded(netnsFd);
      return false;
    }
    if (clock.monotonicMs() < entry.drainUntilMs) return true;
    log.warn('connections through ztunnel are cut: the pod left the mesh and they did not end in time', {
      ...namesOf(pod),
      uid: entry.uid,
      open,
      waitedMs: settings.drainMs,
    });
    return false;
  }

  async function unannotate(pod: Pod, podEnded: boolean): Promise<void> {
    try {
      await patchAnnotation(pod, null);
    } catch (error) {
      // The pod may end at any moment; then nobody reads its annotation.
      if (!podEnded && !isNotFound(error)) throw error;
    }
  }

  /** ztunnel first: with the rules gone its connections would go on in the clear. */
  async function letGo(uid: string, entry: TableEntry | undefined, podEnded: boolean): Promise<void> {
    await zds.del(uid);
    if (podEnded) return;
    // Draining has ended the redirection of new connections already.
    if (entry?.netnsFd !== undefined) return cutAndRemove(entry.netnsFd);
    const fd = findNetns(uid, entry?.ips ?? []);
    if (fd === undefined) return;
    try {
      await rules.release(fd, settings);
      await cutAndRemove(fd);
    } finally {
      closeFd(fd);
    }
  }

  /** What is still redirected ends before the redirection does, or it would go on in the clear. */
  async function cutAndRemove(netnsFd: number): Promise<void> {
    older.cut(netnsFd);
    await rules.remove(netnsFd, settings);
  }
}

/** Waits for all of it, so that nothing goes on behind the back of a retry. @throws the first failure. */
async function allDone(...work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
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

/** The API server blanks the addresses of a pod that ends. */
const podIpsOf = (pod: Pod, entry: TableEntry): readonly IpAddress[] =>
  entry.ips.length > 0 ? entry.ips : podIps(pod);

const nameOf = (pod: Pod): string => `${pod.metadata.namespace ?? 'default'}/${pod.metadata.name}`;

/** For a line of the log. */
export const namesOf = (pod: Pod | undefined): { readonly ns?: string; readonly name?: string } =>
  pod === undefined ? {} : { ns: pod.metadata.namespace ?? 'default', name: pod.metadata.name };
