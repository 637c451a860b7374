// Random endings of generated names: no vowels and no look-alikes, as Kubernetes does.

import type { Random } from '#base/clock.ts';

const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
/** Longest base that leaves room for the ending in a 63-character label. */
const MAX_BASE = 58;

export function randomSuffix(random: Random): string {
  let text = '';
  for (let count = 0; count < 5; count++) text += ALPHABET[Math.floor(random() * ALPHABET.length)];
  return text;
}

export const generatedName = (base: string, random: Random): string =>
  `${base.slice(0, MAX_BASE)}${randomSuffix(random)}`;
