// Redirection inside one pod by iptables: routes first, then table by table, each in one step. The families are apart:
// what one has already, or cannot have, is nothing to the other.

import {
  type IptablesFamily,
  iptablesState,
  parseIptablesSave,
  renderIptablesRelease,
  renderIptablesRemoval,
  renderIptablesRules,
  renderIptablesSteering,
  renderIptablesTracking,
  type SavedRules,
} from './iptables.ts';
import type { IptablesTool } from './iptables-tool.ts';
import type { PodRuleOptions } from './nft.ts';
import type { PodRules } from './pod-rules.ts';
import { setPolicyRoutes } from './policy-routes.ts';

export function createIptablesPodRules(tool: IptablesTool): PodRules {
  const saved = async (netnsFd: number, family: IptablesFamily): Promise<SavedRules> =>
    parseIptablesSave(await tool.save(netnsFd, family));
  const familiesOf = ({ ipv6 }: { readonly ipv6: boolean }): IptablesFamily[] => (ipv6 ? [4, 6] : [4]);

  async function rewrite(
    netnsFd: number,
    options: { readonly ipv6: boolean },
    purpose: string,
    render: (family: IptablesFamily, saved: SavedRules) => string,
  ): Promise<void> {
    for (const family of familiesOf(options))
      await tool.restore(netnsFd, family, render(family, await saved(netnsFd, family)), purpose);
  }

  async function redirect(
    netnsFd: number,
    options: PodRuleOptions,
    render: (family: IptablesFamily, options: PodRuleOptions, saved: SavedRules) => string,
  ): Promise<void> {
    setPolicyRoutes(netnsFd, 'add', options.ipv6);
    await rewrite(netnsFd, options, 'applying the redirection rules', (family, rules) =>
      render(family, options, rules),
    );
  }

  return {
    track: (netnsFd, options) =>
      rewrite(netnsFd, options, 'tracking the connections of a pod', (family, rules) =>
        renderIptablesTracking(family, options, rules),
      ),
    steer: (netnsFd, options) => redirect(netnsFd, options, renderIptablesSteering),
    apply: (netnsFd, options) => redirect(netnsFd, options, renderIptablesRules),
    release: (netnsFd, options) =>
      rewrite(netnsFd, options, 'ending the redirection of new connections', (_family, rules) =>
        renderIptablesRelease(rules),
      ),
    async remove(netnsFd, options) {
      await rewrite(netnsFd, options, 'removing the redirection rules', (_family, rules) =>
        renderIptablesRemoval(rules),
      );
      setPolicyRoutes(netnsFd, 'del', options.ipv6);
    },
    async state(netnsFd, options) {
      const states = await Promise.all(
        familiesOf(options).map(async (family) =>
          iptablesState(family, options, await saved(netnsFd, family)),
        ),
      );
      const [first = 'none'] = states;
      return states.every((state) => state === first) ? first : 'other';
    },
  };
}
