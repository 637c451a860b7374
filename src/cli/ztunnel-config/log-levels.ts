// Log levels of ztunnels: read, set, reset.

import { MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import type { FetchFromPod } from '#k8s/pod-http.ts';

const LEVELS = ['trace', 'debug', 'info', 'warn', 'warning', 'error', 'critical', 'off'];

export interface LogWish {
  readonly level?: string | undefined;
  readonly reset?: boolean | undefined;
}

/** The admin request that carries a wish out. @throws MeshError CONFIG_INVALID */
export function loggingPath({ level, reset }: LogWish): string {
  if (level !== undefined && reset === true)
    throw new MeshError('CONFIG_INVALID', '--level and --reset exclude one another');
  if (reset === true) return '/logging?reset';
  if (level === undefined) return '/logging';
  const directives = level.split(',').map((directive) => {
    const [, scope, word = ''] = /^(?:(.+)[:=])?([^:=]*)$/.exec(directive.trim()) ?? [];
    if (!LEVELS.includes(word))
      throw new MeshError(
        'CONFIG_INVALID',
        `--level ${level}: ${JSON.stringify(word)} is no level; there are: ${LEVELS.join(', ')}`,
      );
    // As istioctl translates its own words.
    const spoken = word === 'warning' ? 'warn' : word === 'critical' ? 'error' : word;
    return scope === undefined ? spoken : `${scope}=${spoken}`;
  });
  return `/logging?level=${encodeURIComponent(directives.join(','))}`;
}

/** One paragraph per ztunnel, as istioctl prints them. */
export async function applyLogWish(
  fetchFromPod: FetchFromPod,
  pods: readonly Pod[],
  wish: LogWish,
  port: number,
): Promise<string> {
  const path = loggingPath(wish);
  const answers = await Promise.all(
    pods.map(async ({ metadata: { name, namespace = '' } }) => {
      const answer = await fetchFromPod({ namespace, pod: name, port, path, method: 'POST' });
      return `${name}.${namespace}:\n${answer.trimEnd()}\n\n`;
    }),
  );
  return answers.join('');
}
