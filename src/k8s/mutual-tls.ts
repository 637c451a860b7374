// Where PeerAuthentication asks for mutual TLS (control-plane.md §2.17). Pure.

import { objectKey } from './informer.ts';
import type { MutualTlsMode, PeerAuthentication } from './objects.ts';

type Labels = Readonly<Record<string, string>> | undefined;

/** Whether plaintext is refused at a port of a pod with these labels. */
export function refusesPlaintext(
  objects: readonly PeerAuthentication[],
  rootNamespace: string,
  pod: { readonly namespace: string; readonly labels: Labels },
): (port: number) => boolean {
  const inNamespace = (namespace: string): PeerAuthentication[] =>
    objects.filter((object) => object.metadata.namespace === namespace && !hasSelector(object));
  // Selectors in the root namespace are ignored: it speaks for the whole mesh only.
  const own =
    pod.namespace === rootNamespace
      ? undefined
      : oldest(
          objects.filter(
            (object) =>
              object.metadata.namespace === pod.namespace &&
              hasSelector(object) &&
              selects(object.spec?.selector?.matchLabels, pod.labels),
          ),
        );
  const levels = [own, oldest(inNamespace(pod.namespace)), oldest(inNamespace(rootNamespace))];
  const mode = levels.map(modeOf).find((level) => level !== 'UNSET') ?? 'PERMISSIVE';
  return (port) => {
    const portMode = own?.spec?.portLevelMtls?.[port]?.mode ?? 'UNSET';
    return (portMode === 'UNSET' ? mode : portMode) === 'STRICT';
  };
}

function hasSelector(object: PeerAuthentication): boolean {
  return Object.keys(object.spec?.selector?.matchLabels ?? {}).length > 0;
}

function selects(wanted: Labels, labels: Labels): boolean {
  return Object.entries(wanted ?? {}).every(([key, value]) => labels?.[key] === value);
}

function modeOf(object: PeerAuthentication | undefined): MutualTlsMode {
  return object?.spec?.mtls?.mode ?? 'UNSET';
}

/** The oldest decides; the name breaks a tie. */
function oldest(objects: readonly PeerAuthentication[]): PeerAuthentication | undefined {
  const age = (object: PeerAuthentication) =>
    `${object.metadata.creationTimestamp ?? ''} ${objectKey(object)}`;
  return objects.reduce<PeerAuthentication | undefined>(
    (first, object) => (first === undefined || age(object) < age(first) ? object : first),
    undefined,
  );
}
