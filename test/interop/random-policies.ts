// Sets of policies out of a number, and connections to ask them about. Names are few and alike, so that prefixes, suffixes
// and negations meet something; half of the conditions are made of a connection that will come.

import type { SpiffeId } from '#model/identity.ts';
import { type Policy, type PolicyMatch, policyKey, type StringMatch } from '#model/policy.ts';
import { policyOf } from '#model/samples.ts';
import type { Cidr } from '#net/cidr.ts';
import { parseCidr } from '#net/cidr.ts';
import { type IpAddress, ip } from '#net/ip.ts';

const OWN_NAMESPACE = 'shop';
export const DESTINATIONS = [ip('10.60.0.1'), ip('fd60::1')] as const;
export const PORTS = [8080, 8081, 9090] as const;
export const SOURCES = {
  v4: ['10.61.0.1', '10.61.0.2', '10.61.128.1', '192.0.2.7'].map(ip),
  v6: ['fd61::1', 'fd61::2', 'fd61:1::1'].map(ip),
} as const;
const ACCOUNTS = ['shop/web', 'shop/web-2', 'shops/web', 'bank/teller', 'bank/web'] as const;
export const IDENTITIES = ACCOUNTS.map((account) => idOf(account));

function idOf(account: string): SpiffeId {
  const [namespace, name] = account.split('/');
  return `spiffe://cluster.local/ns/${namespace}/sa/${name}` as SpiffeId;
}

/** One connection to the workload under test. */
export interface Attempt {
  readonly sourceIp: IpAddress;
  /** Undefined: plaintext. */
  readonly identity: SpiffeId | undefined;
  readonly destination: { readonly ip: IpAddress; readonly port: number };
}

export interface PolicySet {
  readonly policies: readonly Policy[];
  /** Names that the workload lists, one of them possibly unknown. */
  readonly attached: readonly string[];
  readonly attempts: readonly Attempt[];
}

export function policySetOf(seed: number): PolicySet {
  const dice = new Dice(seed);
  const attempts = dice.times(1, 8, () => attempt(dice), 8);
  const policies = dice.times(0, 4, (index) => policy(dice, `p${index}`, dice.one(attempts)));
  const selected = policies.filter(({ scope }) => scope === 'WorkloadSelector' && dice.chance(0.7));
  const attached: string[] = selected.map(policyKey);
  if (dice.chance(0.2)) attached.push(`${OWN_NAMESPACE}/not-there-yet`);
  return { policies, attached, attempts };
}

function attempt(dice: Dice): Attempt {
  const [v4, v6] = DESTINATIONS;
  const isV6 = dice.chance(0.3);
  return {
    sourceIp: dice.one(isV6 ? SOURCES.v6 : SOURCES.v4),
    identity: dice.chance(0.25) ? undefined : dice.one(IDENTITIES),
    destination: { ip: isV6 ? v6 : v4, port: dice.one(PORTS) },
  };
}

function policy(dice: Dice, name: string, likely: Attempt): Policy {
  return policyOf({
    name,
    namespace: dice.chance(0.7) ? OWN_NAMESPACE : dice.one(['istio-system', 'bank']),
    scope: dice.one(['Namespace', 'Namespace', 'Global', 'WorkloadSelector']),
    action: dice.one(['Allow', 'Allow', 'Deny']),
    dryRun: dice.chance(0.15),
    // Empties have meanings of their own at every level, but too many would decide everything.
    rules: dice.times(dice.chance(0.1) ? 0 : 1, 3, () => ({
      clauses: dice.times(dice.chance(0.06) ? 0 : 1, 2, () =>
        dice.times(dice.chance(0.06) ? 0 : 1, 2, () => match(dice, likely)),
      ),
    })),
  });
}

function match(dice: Dice, likely: Attempt): PolicyMatch {
  const some = <T>(make: () => T): T[] => (dice.chance(0.14) ? dice.times(1, 2, make) : []);
  const namespace = (): StringMatch => text(dice, dice.one(['shop', 'shops', 'bank', namespaceOf(likely)]));
  const account = () => {
    const [ns, serviceAccount] = dice.one(ACCOUNTS).split('/') as [string, string];
    return { namespace: ns, serviceAccount };
  };
  const principal = (): StringMatch =>
    text(dice, (dice.chance(0.5) ? likely.identity : undefined)?.slice(9) ?? dice.one(IDENTITIES).slice(9));
  const source = (): Cidr => range(dice, dice.chance(0.5) ? likely.sourceIp : dice.one(allSources()));
  const destination = (): Cidr => range(dice, dice.one(DESTINATIONS));
  const port = (): number => dice.one([...PORTS, likely.destination.port, 15_008]);
  return {
    namespaces: some(namespace),
    notNamespaces: some(namespace),
    serviceAccounts: some(account),
    notServiceAccounts: some(account),
    principals: some(principal),
    notPrincipals: some(principal),
    sourceIps: some(source),
    notSourceIps: some(source),
    destinationIps: some(destination),
    notDestinationIps: some(destination),
    destinationPorts: some(port),
    notDestinationPorts: some(port),
  };
}

function namespaceOf({ identity }: Attempt): string {
  return identity?.split('/')[4] ?? '';
}

const allSources = (): IpAddress[] => [...SOURCES.v4, ...SOURCES.v6];

function text(dice: Dice, of: string): StringMatch {
  const cut = dice.below(of.length + 1);
  return dice.one<StringMatch>([
    { kind: 'exact', text: of },
    { kind: 'exact', text: of },
    { kind: 'prefix', text: of.slice(0, cut) },
    { kind: 'suffix', text: of.slice(cut) },
    { kind: 'presence' },
  ]);
}

function range(dice: Dice, around: IpAddress): Cidr {
  const lengths = around.includes(':') ? [0, 16, 32, 64, 128] : [0, 8, 16, 17, 24, 32];
  return parseCidr(`${around}/${dice.one(lengths)}`)!;
}

/** A linear congruential generator: the same number gives the same set on every machine. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed % 2_147_483_646) + 1;
  }

  roll(): number {
    this.#state = (this.#state * 48_271) % 2_147_483_647;
    return this.#state / 2_147_483_647;
  }

  below(limit: number): number {
    return Math.floor(this.roll() * limit);
  }

  chance(of: number): boolean {
    return this.roll() < of;
  }

  one<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  times<T>(least: number, most: number, make: (index: number) => T, exactly?: number): T[] {
    const count = exactly ?? least + this.below(most - least + 1);
    return Array.from({ length: count }, (_unused, index) => make(index));
  }
}
