// A short stable name for a pod template: equal templates, equal names, whatever the order of their fields.

import { createHash } from 'node:crypto';
import type { PodTemplate } from '#k8s/objects.ts';

export const POD_TEMPLATE_HASH = 'pod-template-hash';

/** No vowels and no look-alikes, so that no hash spells a word. */
const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const LENGTH = 10;

/** Fields that are null or absent do not count, nor does the label that carries the hash. */
export function templateHash(template: PodTemplate): string {
  const { [POD_TEMPLATE_HASH]: _, ...labels } = template.metadata?.labels ?? {};
  const text = canonical({ ...template, metadata: { ...template.metadata, labels } });
  const digest = createHash('sha256').update(text).digest();
  let hash = '';
  for (const byte of digest.subarray(0, LENGTH)) hash += ALPHABET[byte % ALPHABET.length];
  return hash;
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined && field !== null)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`);
  return `{${fields.join(',')}}`;
}
