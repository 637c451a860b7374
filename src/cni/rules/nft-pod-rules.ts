// Redirection inside one pod by nftables: policy routing first, then the rules in one transaction; removed the other way
// round.

import { countNftRules } from '#linux/nft-rules.ts';
import { MANGLE_TABLE, NAT_TABLE, RAW_TABLE } from '../constants.ts';
import {
  countRules,
  type PodRuleOptions,
  renderPodRemoval,
  renderPodRules,
  renderRelease,
  renderSteering,
  renderTracking,
} from './nft.ts';
import type { PodRules } from './pod-rules.ts';
import { setPolicyRoutes } from './policy-routes.ts';
import { runToolOrFail } from './run-tool.ts';

const TABLES: readonly string[] = [NAT_TABLE, MANGLE_TABLE, RAW_TABLE];

export const nftPodRules: PodRules = {
  track: (netnsFd, options) => write(netnsFd, renderTracking(options), 'tracking the connections of a pod'),
  steer: (netnsFd, options) => redirect(netnsFd, options, renderSteering(options)),
  apply: (netnsFd, options) => redirect(netnsFd, options, renderPodRules(options)),
  async release(netnsFd) {
    const text = renderRelease(countNftRules(netnsFd));
    if (text !== '') await write(netnsFd, text, 'ending the redirection of new connections');
  },
  async remove(netnsFd, { ipv6 }) {
    await write(netnsFd, renderPodRemoval(), 'removing the redirection rules');
    setPolicyRoutes(netnsFd, 'del', ipv6);
  },
  async state(netnsFd, options) {
    const found = [...countNftRules(netnsFd)].filter(([place]) => TABLES.includes(place.split(' ')[0] ?? ''));
    if (found.length === 0) return 'none';
    const planned = countRules(renderPodRules(options));
    const isPlanned = ([place, count]: readonly [string, number]): boolean => planned.get(place) === count;
    return found.length === planned.size && found.every(isPlanned) ? 'steering' : 'other';
  },
};

/** Routes first: were they to fail afterwards, the pod would redirect into a path that cannot answer. */
async function redirect(netnsFd: number, { ipv6 }: PodRuleOptions, text: string): Promise<void> {
  setPolicyRoutes(netnsFd, 'add', ipv6);
  await write(netnsFd, text, 'applying the redirection rules');
}

async function write(netnsFd: number, text: string, purpose: string): Promise<void> {
  await runToolOrFail(netnsFd, ['nft', '-f', '-'], text, purpose);
}
