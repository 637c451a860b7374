// Small formats of table cells: ages as kubectl prints them, selectors.

import type { LabelSelector } from '#k8s/objects.ts';
import { formatSelector } from '#k8s/selectors.ts';
import { isObject } from './object.ts';

/** `45s`, `3m7s`, `4h5m`, `2d3h`, `9d`, `2y10d`: two units while the first is small. */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`;
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return hours % 24 === 0 ? `${days}d` : `${days}d${hours % 24}h`;
  if (days < 730) return `${days}d`;
  const years = Math.floor(days / 365);
  if (years < 8) return days % 365 === 0 ? `${years}y` : `${years}y${days % 365}d`;
  return `${years}y`;
}

export function ageOf(timestamp: string | undefined, nowMs: number): string {
  const atMs = timestamp === undefined ? Number.NaN : Date.parse(timestamp);
  return Number.isNaN(atMs) ? '<unknown>' : duration(nowMs - atMs);
}

export function selectorText(selector: unknown): string {
  if (!isObject(selector)) return '<none>';
  return formatSelector(selector as LabelSelector) || '<none>';
}

/** `a=b,c=d` */
export function labelsText(labels: unknown): string {
  if (!isObject(labels)) return '<none>';
  return (
    Object.entries(labels)
      .map(([key, value]) => `${key}=${String(value)}`)
      .join(',') || '<none>'
  );
}
