// Rules of Deployment, ReplicaSet and DaemonSet: defaults of the spec, selector and template.

import type { LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import type { Strategy } from './kind.ts';
import { checkLabels } from './names.ts';
import { type ApiObject, at, equal, isObject, type JsonObject } from './object.ts';
import { defaultPodSpec } from './pod-defaults.ts';
import { validatePodSpec } from './pod-validation.ts';
import { type FieldError, invalid, notSupported, required } from './status.ts';

function specOf(object: ApiObject): JsonObject {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as JsonObject;
}

function defaultTemplate(spec: JsonObject): void {
  const podSpec = at(spec, 'template', 'spec');
  if (isObject(podSpec)) defaultPodSpec(podSpec);
}

function validateTemplate(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const spec = specOf(object);
  const errors: FieldError[] = [];
  const selector = spec.selector;
  const labels = (at(spec, 'template', 'metadata', 'labels') ?? {}) as Record<string, string>;
  if (!isObject(selector)) errors.push(required('spec.selector'));
  else if (Object.keys(selector).length === 0)
    errors.push(invalid('spec.selector', selector, 'empty selector is invalid for workloads'));
  else if (!matchesSelector(selector as LabelSelector, labels))
    errors.push(
      invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`'),
    );
  if (old !== undefined && !equal(at(old, 'spec', 'selector'), selector))
    errors.push(invalid('spec.selector', selector, 'field is immutable'));
  errors.push(...checkLabels(labels, 'spec.template.metadata.labels'));
  const replicas = spec.replicas;
  if (replicas !== undefined && !(Number.isInteger(replicas) && (replicas as number) >= 0))
    errors.push(invalid('spec.replicas', replicas, 'must be greater than or equal to 0'));
  const podSpec = at(spec, 'template', 'spec');
  errors.push(...validatePodSpec(isObject(podSpec) ? podSpec : {}, 'spec.template.spec'));
  const restart = at(podSpec, 'restartPolicy');
  if (restart !== undefined && restart !== 'Always')
    errors.push(notSupported('spec.template.spec.restartPolicy', restart, ['Always']));
  return errors;
}

const workload = (defaults: (spec: JsonObject) => void): Strategy => ({
  generation: true,
  nameRule: 'subdomain',
  statusCarries: ['annotations'],
  defaults: (object) => {
    const spec = specOf(object);
    defaults(spec);
    defaultTemplate(spec);
  },
  validate: validateTemplate,
});

export const replicaSetStrategy = workload((spec) => {
  spec.replicas ??= 1;
});

export const deploymentStrategy = workload((spec) => {
  spec.replicas ??= 1;
  spec.revisionHistoryLimit ??= 10;
  spec.progressDeadlineSeconds ??= 600;
  const strategy = isObject(spec.strategy) ? spec.strategy : {};
  strategy.type ??= 'RollingUpdate';
  if (strategy.type === 'RollingUpdate') {
    const rolling = isObject(strategy.rollingUpdate) ? strategy.rollingUpdate : {};
    rolling.maxUnavailable ??= '25%';
    rolling.maxSurge ??= '25%';
    strategy.rollingUpdate = rolling;
  }
  spec.strategy = strategy;
});

export const daemonSetStrategy = workload((spec) => {
  spec.revisionHistoryLimit ??= 10;
  const strategy = isObject(spec.updateStrategy) ? spec.updateStrategy : {};
  strategy.type ??= 'RollingUpdate';
  if (strategy.type === 'RollingUpdate') {
    const rolling = isObject(strategy.rollingUpdate) ? strategy.rollingUpdate : {};
    rolling.maxUnavailable ??= 1;
    rolling.maxSurge ??= 0;
    strategy.rollingUpdate = rolling;
  }
  spec.updateStrategy = strategy;
});
