// Rules of Deployment, ReplicaSet, DaemonSet, StatefulSet and ControllerRevision: defaults of the spec, selector, template,
// counts of a rollout.

import type { LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import type { Strategy } from './kind.ts';
import { checkLabels } from './names.ts';
import { type ApiObject, at, equal, isObject, type JsonObject } from './object.ts';
import { defaultPodSpec } from './pod-defaults.ts';
import { validatePodSpec } from './pod-validation.ts';
import { type FieldError, fieldForbidden, invalid, notSupported, required } from './status.ts';
import { defaultClaim, validateClaimSpec } from './strategy-storage.ts';

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
  // The claims of a StatefulSet become volumes of its pods.
  const claims = claimTemplates(spec).map((template) => at(template, 'metadata', 'name'));
  errors.push(...validatePodSpec(isObject(podSpec) ? podSpec : {}, 'spec.template.spec', claims.map(String)));
  const restart = at(podSpec, 'restartPolicy');
  if (restart !== undefined && restart !== 'Always')
    errors.push(notSupported('spec.template.spec.restartPolicy', restart, ['Always']));
  return errors;
}

/** A number of pods or a percentage of them. */
export function checkCount(value: unknown, path: string): FieldError[] {
  if (value === undefined) return [];
  if (typeof value === 'string')
    return /^\d+%$/.test(value)
      ? []
      : [invalid(path, value, "must be an integer or percentage (e.g '1', '25%')")];
  return Number.isInteger(value) && (value as number) >= 0
    ? []
    : [invalid(path, value, 'must be greater than or equal to 0')];
}

const isNone = (value: unknown): boolean => value === 0 || value === '0%';

/** Type and counts of `spec.strategy` or `spec.updateStrategy`. */
function checkRollout(spec: JsonObject, field: string, types: readonly string[]): FieldError[] {
  const path = `spec.${field}`;
  const strategy = isObject(spec[field]) ? spec[field] : {};
  if (!types.includes(String(strategy.type))) return [notSupported(`${path}.type`, strategy.type, types)];
  const rolling = strategy.rollingUpdate;
  if (strategy.type !== 'RollingUpdate')
    return rolling === undefined
      ? []
      : [
          fieldForbidden(
            `${path}.rollingUpdate`,
            `may not be specified when strategy \`type\` is '${String(strategy.type)}'`,
          ),
        ];
  const counts = isObject(rolling) ? rolling : {};
  return ['maxSurge', 'maxUnavailable'].flatMap((name) =>
    checkCount(counts[name], `${path}.rollingUpdate.${name}`),
  );
}

const workload = (
  defaults: (spec: JsonObject) => void,
  check: (spec: JsonObject, old: JsonObject | undefined) => FieldError[] = () => [],
): Strategy => ({
  generation: true,
  nameRule: 'subdomain',
  statusCarries: ['annotations'],
  defaults: (object) => {
    const spec = specOf(object);
    defaults(spec);
    defaultTemplate(spec);
  },
  validate: (object, old) => [
    ...validateTemplate(object, old),
    ...check(specOf(object), old === undefined ? undefined : (old.spec as JsonObject)),
  ],
});

export const replicaSetStrategy = workload((spec) => {
  spec.replicas ??= 1;
});

export const deploymentStrategy = workload(
  (spec) => {
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
  },
  (spec) => {
    const errors = checkRollout(spec, 'strategy', ['Recreate', 'RollingUpdate']);
    const rolling = at(spec, 'strategy', 'rollingUpdate');
    if (isObject(rolling) && isNone(rolling.maxUnavailable) && isNone(rolling.maxSurge))
      errors.push(
        invalid(
          'spec.strategy.rollingUpdate.maxUnavailable',
          rolling.maxUnavailable,
          'may not be 0 when `maxSurge` is 0',
        ),
      );
    if (Number(spec.progressDeadlineSeconds) <= Number(spec.minReadySeconds ?? 0))
      errors.push(
        invalid(
          'spec.progressDeadlineSeconds',
          spec.progressDeadlineSeconds,
          'must be greater than minReadySeconds',
        ),
      );
    return errors;
  },
);

export const daemonSetStrategy = workload(
  (spec) => {
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
  },
  (spec) => {
    const errors = checkRollout(spec, 'updateStrategy', ['RollingUpdate', 'OnDelete']);
    const rolling = at(spec, 'updateStrategy', 'rollingUpdate');
    if (isObject(rolling) && isNone(rolling.maxUnavailable) === isNone(rolling.maxSurge))
      errors.push(
        isNone(rolling.maxSurge)
          ? invalid(
              'spec.updateStrategy.rollingUpdate.maxUnavailable',
              rolling.maxUnavailable,
              'cannot be 0 when maxSurge is 0',
            )
          : invalid(
              'spec.updateStrategy.rollingUpdate.maxSurge',
              rolling.maxSurge,
              'may not be set when maxUnavailable is non-zero',
            ),
      );
    return errors;
  },
);

const POLICIES = ['OrderedReady', 'Parallel'];
const RETENTION = ['Delete', 'Retain'];

const claimTemplates = (spec: JsonObject): JsonObject[] =>
  Array.isArray(spec.volumeClaimTemplates) ? spec.volumeClaimTemplates.filter(isObject) : [];

const CHANGEABLE = [
  'replicas',
  'ordinals',
  'template',
  'updateStrategy',
  'revisionHistoryLimit',
  'persistentVolumeClaimRetentionPolicy',
  'minReadySeconds',
];

export const statefulSetStrategy = workload(
  (spec) => {
    spec.replicas ??= 1;
    spec.revisionHistoryLimit ??= 10;
    spec.podManagementPolicy ??= 'OrderedReady';
    spec.serviceName ??= '';
    const strategy = isObject(spec.updateStrategy) ? spec.updateStrategy : {};
    strategy.type ??= 'RollingUpdate';
    if (strategy.type === 'RollingUpdate') {
      const rolling = isObject(strategy.rollingUpdate) ? strategy.rollingUpdate : {};
      rolling.partition ??= 0;
      strategy.rollingUpdate = rolling;
    }
    spec.updateStrategy = strategy;
    for (const template of claimTemplates(spec)) {
      template.apiVersion ??= 'v1';
      template.kind ??= 'PersistentVolumeClaim';
      template.status ??= { phase: 'Pending' };
      defaultClaim(template);
    }
    const retention = isObject(spec.persistentVolumeClaimRetentionPolicy)
      ? spec.persistentVolumeClaimRetentionPolicy
      : {};
    retention.whenDeleted ??= 'Retain';
    retention.whenScaled ??= 'Retain';
    spec.persistentVolumeClaimRetentionPolicy = retention;
  },
  (spec, old) => {
    const errors = checkRollout(spec, 'updateStrategy', ['RollingUpdate', 'OnDelete']);
    claimTemplates(spec).forEach((template, index) => {
      const path = `spec.volumeClaimTemplates[${index}]`;
      if (at(template, 'metadata', 'name') === undefined) errors.push(required(`${path}.metadata.name`));
      errors.push(...validateClaimSpec(template.spec, `${path}.spec`));
    });
    for (const field of ['whenDeleted', 'whenScaled']) {
      const retention = at(spec, 'persistentVolumeClaimRetentionPolicy', field);
      if (!RETENTION.includes(String(retention)))
        errors.push(notSupported(`spec.persistentVolumeClaimRetentionPolicy.${field}`, retention, RETENTION));
    }
    const partition = at(spec, 'updateStrategy', 'rollingUpdate', 'partition');
    if (partition !== undefined && !(Number.isInteger(partition) && (partition as number) >= 0))
      errors.push(
        invalid(
          'spec.updateStrategy.rollingUpdate.partition',
          partition,
          'must be greater than or equal to 0',
        ),
      );
    const policy = spec.podManagementPolicy;
    if (!POLICIES.includes(String(policy)))
      errors.push(notSupported('spec.podManagementPolicy', policy, POLICIES));
    if (old !== undefined) {
      const fixed = (source: JsonObject): JsonObject =>
        Object.fromEntries(
          Object.entries(source).filter(([field]) => !CHANGEABLE.includes(field) && field !== 'selector'),
        );
      if (!equal(fixed(spec), fixed(old)))
        errors.push(
          fieldForbidden(
            'spec',
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
          ),
        );
    }
    return errors;
  },
);

/** What a StatefulSet or DaemonSet once was; its content never changes, its number may. */
export const controllerRevisionStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  validate: (object, old) => {
    const errors: FieldError[] = [];
    if (!Number.isInteger(object.revision)) errors.push(required('revision'));
    if (old !== undefined && !equal(old.data, object.data))
      errors.push(invalid('data', '<omitted>', 'field is immutable'));
    return errors;
  },
};
