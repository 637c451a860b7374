// The naming rules of Kubernetes, with its own wording: names, labels, annotations.

import type { Strategy } from './kind.ts';
import type { ApiMeta } from './object.ts';
import { type FieldError, invalid, required } from './status.ts';

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const RULES: Readonly<
  Record<Exclude<Strategy['nameRule'], 'path'>, { pattern: RegExp; maxLength: number; text: string }>
> = {
  subdomain: {
    pattern: new RegExp(`^${LABEL}(\\.${LABEL})*$`),
    maxLength: 253,
    text: `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '${LABEL}(\\.${LABEL})*')`,
  },
  label: {
    pattern: new RegExp(`^${LABEL}$`),
    maxLength: 63,
    text: `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '${LABEL}')`,
  },
  label1035: {
    pattern: /^[a-z]([-a-z0-9]*[a-z0-9])?$/,
    maxLength: 63,
    text: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
  },
};

const QUALIFIED_NAME = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const QUALIFIED_TEXT =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ANNOTATIONS_MAX_BYTES = 256 * 1024;

export function checkName(rule: Strategy['nameRule'], name: string, path = 'metadata.name'): FieldError[] {
  if (rule === 'path') {
    const bad = name === '.' || name === '..' || /[/%]/.test(name);
    return bad ? [invalid(path, name, "may not be '.' or '..' and may not contain '/' or '%'")] : [];
  }
  const { pattern, maxLength, text } = RULES[rule];
  if (name.length > maxLength) return [invalid(path, name, `must be no more than ${maxLength} characters`)];
  return pattern.test(name) ? [] : [invalid(path, name, text)];
}

/** RFC 1123 subdomain, as host names. */
export const isDnsSubdomain = (name: string): boolean =>
  name.length <= RULES.subdomain.maxLength && RULES.subdomain.pattern.test(name);

/** RFC 1123 label, as container and volume names. */
export const isDnsLabel = (name: string): boolean => name.length <= 63 && RULES.label.pattern.test(name);

export function checkLabels(labels: unknown, path: string): FieldError[] {
  return Object.entries((labels ?? {}) as Record<string, unknown>).flatMap(([key, value]) => [
    ...checkQualifiedName(key, path),
    ...(typeof value !== 'string'
      ? [invalid(`${path}.${key}`, value, 'must be a string')]
      : value.length > 63
        ? [invalid(path, value, 'must be no more than 63 characters')]
        : value === '' || QUALIFIED_NAME.test(value)
          ? []
          : [invalid(path, value, LABEL_VALUE_TEXT)]),
  ]);
}

export function checkQualifiedName(key: string, path: string): FieldError[] {
  const slash = key.indexOf('/');
  const name = slash < 0 ? key : key.slice(slash + 1);
  const errors: FieldError[] = [];
  if (slash >= 0) {
    const prefix = key.slice(0, slash);
    if (prefix === '') errors.push(invalid(path, key, 'prefix part must be non-empty'));
    else if (!RULES.subdomain.pattern.test(prefix) || prefix.length > 253)
      errors.push(invalid(path, key, `prefix part ${RULES.subdomain.text}`));
  }
  if (name === '') errors.push(invalid(path, key, 'name part must be non-empty'));
  else if (name.length > 63) errors.push(invalid(path, key, 'name part must be no more than 63 characters'));
  else if (!QUALIFIED_NAME.test(name)) errors.push(invalid(path, key, QUALIFIED_TEXT));
  return errors;
}

export function checkMeta(meta: ApiMeta, rule: Strategy['nameRule']): FieldError[] {
  const errors: FieldError[] = [];
  if (meta.name === '') errors.push(required('metadata.name', 'name or generateName is required'));
  else errors.push(...checkName(rule, meta.name));
  errors.push(...checkLabels(meta.labels, 'metadata.labels'));
  let annotationBytes = 0;
  for (const [key, value] of Object.entries(meta.annotations ?? {})) {
    errors.push(...checkQualifiedName(key.toLowerCase(), 'metadata.annotations'));
    annotationBytes += key.length + value.length;
  }
  if (annotationBytes > ANNOTATIONS_MAX_BYTES)
    errors.push({
      path: 'metadata.annotations',
      type: 'TooLong',
      message: `may not be more than ${ANNOTATIONS_MAX_BYTES} bytes`,
    });
  for (const finalizer of meta.finalizers ?? [])
    errors.push(...checkQualifiedName(finalizer, 'metadata.finalizers'));
  (meta.ownerReferences ?? []).forEach((owner, index) => {
    for (const name of ['apiVersion', 'kind', 'name', 'uid'] as const)
      if (!owner[name])
        errors.push(required(`metadata.ownerReferences[${index}].${name}`, 'must not be empty'));
  });
  if ((meta.ownerReferences ?? []).filter((owner) => owner.controller === true).length > 1)
    errors.push(
      invalid('metadata.ownerReferences', undefined, 'Only one reference can have Controller set to true'),
    );
  return errors;
}
