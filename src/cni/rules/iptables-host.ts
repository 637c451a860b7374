// The node's side by iptables and ipset (cni.md A.9.1, A.9.2).

import { familyOf, type IpAddress } from '#net/ip.ts';
import { PROBE_SET_V4, PROBE_SET_V6, PROBE_SOURCE_V4, PROBE_SOURCE_V6 } from '../constants.ts';
import type { HostRules } from './host-probes.ts';
import { parseIptablesSave, type SavedRules } from './iptables.ts';
import type { IptablesTool } from './iptables-tool.ts';
import type { HostRuleOptions, ProbeTarget } from './nft-host.ts';
import { runToolOrFail } from './run-tool.ts';

const CHAIN = 'ISTIO_POSTRT';
const FAMILIES = [
  { family: 4, inet: 'inet', set: PROBE_SET_V4, source: PROBE_SOURCE_V4 },
  { family: 6, inet: 'inet6', set: PROBE_SET_V6, source: PROBE_SOURCE_V6 },
] as const;
type Family = (typeof FAMILIES)[number];

/** `netnsFd` undefined: the agent's own namespace, which is the node's. */
export function createIptablesHostRules(
  tool: IptablesTool,
  options: HostRuleOptions,
  netnsFd?: number,
): HostRules {
  const families = FAMILIES.filter(({ family }) => family === 4 || options.ipv6);
  const setOf = (ip: IpAddress): string | undefined =>
    families.find(({ family }) => family === familyOf(ip))?.set;

  const ipset = async (lines: readonly string[], purpose: string): Promise<void> => {
    if (lines.length > 0)
      await runToolOrFail(netnsFd, ['ipset', '-exist', 'restore'], `${lines.join('\n')}\n`, purpose);
  };
  const additions = (targets: readonly ProbeTarget[]): string[] =>
    targets.flatMap(({ ip, uid }) => {
      const set = setOf(ip);
      return set === undefined ? [] : [`add ${set} ${ip} comment "${uid.replace(/[^A-Za-z0-9.-]/g, '')}"`];
    });

  return {
    async install(targets) {
      const purpose = 'installing the rules for probes on the node';
      const sets = families.flatMap(({ set, inet }) => [
        `create ${set} hash:ip family ${inet} comment`,
        `flush ${set}`,
      ]);
      await ipset([...sets, ...additions(targets)], purpose);
      for (const family of families)
        await tool.restore(
          netnsFd,
          family.family,
          renderHost(family, options, await saved(family.family)),
          purpose,
        );
    },
    change: ({ dropped, added, replaced }, purpose) =>
      ipset(
        [
          ...dropped.flatMap((ip) => {
            const set = setOf(ip);
            return set === undefined ? [] : [`del ${set} ${ip}`];
          }),
          // An address that is there gets the new owner as its comment.
          ...additions([...added, ...replaced]),
        ],
        purpose,
      ),
    async uninstall() {
      const purpose = 'removing the rules for probes on the node';
      for (const { family } of families)
        await tool.restore(netnsFd, family, renderHostRemoval(await saved(family)), purpose);
      // Made first, so that destroying cannot fail.
      await ipset(
        families.flatMap(({ set, inet }) => [
          `create ${set} hash:ip family ${inet} comment`,
          `destroy ${set}`,
        ]),
        purpose,
      );
    },
  };

  async function saved(family: 4 | 6): Promise<SavedRules> {
    return parseIptablesSave(await tool.save(netnsFd, family));
  }
}

/** Whose socket it is says that it is a probe; forwarded traffic has none. */
function renderHost({ set, source }: Family, { kubeletUid }: HostRuleOptions, saved: SavedRules): string {
  return [
    '*nat',
    `:${CHAIN} - [0:0]`,
    // First of all: masquerading would hide the packet from it.
    ...(hasJump(saved) ? [] : [`-I POSTROUTING 1 -j ${CHAIN}`]),
    `-A ${CHAIN} -p tcp -m owner --uid-owner ${kubeletUid} -m set --match-set ${set} dst -j SNAT --to-source ${source}`,
    'COMMIT\n',
  ].join('\n');
}

function renderHostRemoval(saved: SavedRules): string {
  if (!saved.has(`nat ${CHAIN}`)) return '';
  const jump = hasJump(saved) ? [`-D POSTROUTING -j ${CHAIN}`] : [];
  return ['*nat', ...jump, `-F ${CHAIN}`, `-X ${CHAIN}`, 'COMMIT\n'].join('\n');
}

const hasJump = (saved: SavedRules): boolean =>
  saved.get('nat POSTROUTING')?.includes(`-j ${CHAIN}`) ?? false;
