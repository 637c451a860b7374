// Which address families a Service has: worked out from ipFamilyPolicy, ipFamilies and clusterIPs, whichever of them the client
// gave, by the rules of Kubernetes and with its sentences.

import type { Service } from '#k8s/objects.ts';
import type { ServiceFamilies } from './kind.ts';
import type { JsonObject } from './object.ts';
import { duplicate, type FieldError, invalid, notSupported, required } from './status.ts';

type Spec = Partial<Service['spec']> & JsonObject;
type Family = ServiceFamilies[number];

const FAMILIES = ['IPv4', 'IPv6'];
const POLICIES = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];

export const familyOfAddress = (address: string): Family => (address.includes(':') ? 'IPv6' : 'IPv4');

const same = (a: readonly unknown[] = [], b: readonly unknown[] = []): boolean =>
  JSON.stringify(a) === JSON.stringify(b);
const isHeadless = ({ clusterIP, clusterIPs }: Spec): boolean => (clusterIPs?.[0] ?? clusterIP) === 'None';
const isHeadlessWithoutSelector = (spec: Spec): boolean =>
  isHeadless(spec) && Object.keys(spec.selector ?? {}).length === 0;

/** Brings `clusterIP` and `clusterIPs` together: old clients know the first only, and a manifest has neither. */
export function joinAddresses(spec: Spec, before: Spec | undefined): void {
  if (before !== undefined) {
    const { clusterIP, clusterIPs = clusterIP === undefined ? [] : [clusterIP] } = before;
    if (!spec.clusterIP && clusterIP !== undefined) spec.clusterIP = clusterIP;
    if ((spec.clusterIPs ?? []).length === 0) spec.clusterIPs = [...clusterIPs];
    // An old client that changes the address sends the list back as it got it.
    if (spec.clusterIP !== clusterIP && same(spec.clusterIPs, clusterIPs) && spec.clusterIP)
      spec.clusterIPs = [spec.clusterIP];
  } else if (spec.clusterIP && (spec.clusterIPs ?? []).length === 0) spec.clusterIPs = [spec.clusterIP];
}

/** Sets policy and families. Whatever can be said of the spec alone has been checked by then. */
export function settleFamilies(spec: Spec, before: Spec | undefined, cluster: ServiceFamilies): FieldError[] {
  // A service that prefers two families keeps what it has when the cluster gains or loses one.
  if (
    before !== undefined &&
    spec.ipFamilyPolicy === 'PreferDualStack' &&
    before.ipFamilyPolicy === 'PreferDualStack' &&
    same(spec.clusterIPs, before.clusterIPs) &&
    same(spec.ipFamilies, before.ipFamilies)
  )
    return [];
  spec.ipFamilyPolicy ??=
    before?.ipFamilyPolicy ?? (isHeadlessWithoutSelector(spec) ? 'RequireDualStack' : 'SingleStack');
  const policy = spec.ipFamilyPolicy;
  const errors: FieldError[] = [];
  const policyError = (text: string): void => {
    errors.push(invalid('spec.ipFamilyPolicy', policy, text));
  };
  if (before !== undefined && policy === 'SingleStack') {
    // Nothing else changed: it is clear what the policy means. The first address is the service's for life.
    if (same(spec.clusterIPs, before.clusterIPs) && spec.clusterIPs !== undefined)
      spec.clusterIPs = spec.clusterIPs.slice(0, 1);
    if (same(spec.ipFamilies, before.ipFamilies) && spec.ipFamilies !== undefined)
      spec.ipFamilies = spec.ipFamilies.slice(0, 1);
  } else if (before !== undefined) {
    const isReduced = (now: readonly string[] = [], then: readonly string[] = []): boolean =>
      now.length === 1 && then.length > 1 && now[0] === then[0];
    if (isReduced(spec.clusterIPs, before.clusterIPs))
      policyError("must be 'SingleStack' to release the secondary cluster IP");
    if (isReduced(spec.ipFamilies, before.ipFamilies))
      policyError("must be 'SingleStack' to release the secondary IP family");
  }
  if (policy === 'SingleStack') {
    if ((spec.clusterIPs ?? []).length === 2)
      policyError("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
    if ((spec.ipFamilies ?? []).length === 2)
      policyError("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
  }
  const families = [...(spec.ipFamilies ?? [])] as Family[];
  if (!isHeadless(spec))
    (spec.clusterIPs ?? []).forEach((address, index) => {
      const family = familyOfAddress(address);
      if (index < families.length) return;
      if (cluster.includes(family)) families.push(family);
      else
        errors.push(
          invalid(
            `spec.clusterIPs[${index}]`,
            spec.clusterIPs,
            `${family} is not configured on this cluster`,
          ),
        );
    });
  if (errors.length > 0) return errors;

  const [usual = 'IPv4'] = cluster;
  const wantsBoth = policy !== 'SingleStack';
  // Whoever writes the endpoints of such a service decides of which family they are.
  const isFree = isHeadlessWithoutSelector(spec);
  if (!isFree) {
    if (policy === 'RequireDualStack' && cluster.length < 2)
      policyError('this cluster is not configured for dual-stack services');
    families.forEach((family, index) => {
      if (!cluster.includes(family))
        errors.push(invalid(`spec.ipFamilies[${index}]`, family, 'not configured on this cluster'));
    });
    if (errors.length > 0) return errors;
  }
  if (families.length === 0) families.push(usual);
  if (wantsBoth && families.length === 1 && (isFree || cluster.length === 2))
    families.push(families[0] === 'IPv4' ? 'IPv6' : 'IPv4');
  spec.ipFamilies = families;
  return [];
}

/** What can be said of the fields alone, and of how they may change. */
export function checkFamilies(spec: Spec, before: Spec | undefined): FieldError[] {
  const { clusterIP = '', clusterIPs = [], ipFamilies = [], ipFamilyPolicy } = spec;
  const errors: FieldError[] = [];
  if (clusterIP !== '') {
    if (clusterIPs.length === 0) errors.push(required('spec.clusterIPs'));
    else if (clusterIPs[0] !== clusterIP)
      errors.push(invalid('spec.clusterIPs', clusterIPs, 'first value must match `clusterIP`'));
  } else if (clusterIPs.length > 0 && clusterIPs[0] !== '')
    errors.push(invalid('spec.clusterIPs', clusterIPs, 'must be empty when `clusterIP` is not specified'));
  ipFamilies.forEach((family, index) => {
    const path = `spec.ipFamilies[${index}]`;
    if (!FAMILIES.includes(String(family))) errors.push(notSupported(path, family, FAMILIES));
    if (ipFamilies.indexOf(family) < index) errors.push(duplicate(path, family));
  });
  if (ipFamilyPolicy !== undefined && !POLICIES.includes(String(ipFamilyPolicy)))
    errors.push(notSupported('spec.ipFamilyPolicy', ipFamilyPolicy, POLICIES));
  if (clusterIPs.length > 2)
    errors.push(invalid('spec.clusterIPs', clusterIPs, 'may only hold up to 2 values'));
  if (clusterIPs[0] === 'None') {
    if (clusterIPs.length > 1)
      errors.push(invalid('spec.clusterIPs', clusterIPs, "'None' must be the first and only value"));
  } else {
    const families = clusterIPs.map(familyOfAddress);
    if (clusterIPs.length > 1 && new Set(families).size < clusterIPs.length)
      errors.push(
        invalid('spec.clusterIPs', clusterIPs, 'may specify no more than one IP for each IP family'),
      );
    families.forEach((family, index) => {
      const wanted = ipFamilies[index];
      if (clusterIPs[index] !== '' && wanted !== undefined && wanted !== family)
        errors.push(
          invalid(
            `spec.clusterIPs[${index}]`,
            clusterIPs[index],
            `expected an ${wanted} value as indicated by \`ipFamilies[${index}]\``,
          ),
        );
    });
  }
  if (before !== undefined && before.type !== 'ExternalName') errors.push(...checkChange(spec, before));
  return errors;
}

function checkChange(spec: Spec, before: Spec): FieldError[] {
  const { clusterIPs = [], ipFamilies = [] } = spec;
  const errors: FieldError[] = [];
  if (isHeadless(spec) && isHeadless(before)) return errors;
  const then = before.clusterIPs ?? (before.clusterIP === undefined ? [] : [before.clusterIP]);
  // A second address may come and go, the first stays.
  const kept = then.length === clusterIPs.length ? then : then.slice(0, 1);
  kept.forEach((address, index) => {
    if (clusterIPs[index] !== address)
      errors.push(invalid(`spec.clusterIPs[${index}]`, clusterIPs, 'may not change once set'));
  });
  if (isHeadless(spec) !== isHeadless(before)) return errors;
  const [first] = before.ipFamilies ?? [];
  if (first !== undefined && ipFamilies[0] !== undefined && ipFamilies[0] !== first)
    errors.push(invalid('spec.ipFamilies[0]', ipFamilies, 'may not change once set'));
  return errors;
}
