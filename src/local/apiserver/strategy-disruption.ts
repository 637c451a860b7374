// Rules of PodDisruptionBudget.

import type { Strategy } from './kind.ts';
import { at } from './object.ts';
import { type FieldError, invalid, notSupported } from './status.ts';
import { checkCount } from './strategy-workload.ts';

const POLICIES = ['AlwaysAllow', 'IfHealthyBudget'];

export const disruptionBudgetStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  defaults: (object) => {
    object.spec ??= {};
  },
  validate: (object) => {
    const field = (name: string): unknown => at(object, 'spec', name);
    const errors: FieldError[] = [
      ...checkCount(field('minAvailable'), 'spec.minAvailable'),
      ...checkCount(field('maxUnavailable'), 'spec.maxUnavailable'),
    ];
    if (field('minAvailable') !== undefined && field('maxUnavailable') !== undefined)
      errors.push(invalid('spec', '', 'minAvailable and maxUnavailable cannot be both set'));
    const policy = field('unhealthyPodEvictionPolicy');
    if (policy !== undefined && !POLICIES.includes(String(policy)))
      errors.push(notSupported('spec.unhealthyPodEvictionPolicy', policy, POLICIES));
    return errors;
  },
};
