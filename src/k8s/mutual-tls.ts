// Where PeerAuthentication asks for mutual TLS (control-plane.md §2.17). Pure.

import { objectKey } from './informer.ts';
import type { MutualTlsMode, PeerAuthentication } from './objects.ts';

type Labels = Readonly<Record<string, string>> | undefined;
export type Mode = Exclude<MutualTlsMode, 'UNSET'>;

/** Whether plaintext is refused at a port of a pod with these labels. */
export function refusesPlaintext(
  objects: readonly PeerAuthentication[],
  rootNamespace: string,
  { namespace, labels }: { readonly namespace: string; readonly labels: Labels },
): (port: number) => boolean {
  const own = selectingPeerAuthentication(objects, namespace, labels, rootNamespace);
  const mode = modeHeld(own, inheritedMode(objects, namespace, rootNamespace));
  return (port) => {
    const portMode = own?.spec?.portLevelMtls?.[port]?.mode ?? 'UNSET';
    return (portMode === 'UNSET' ? mode : portMode) === 'STRICT';
  };
}

/** The mode that holds in a namespace where no selector says otherwise. PERMISSIVE if nobody says anything. */
export function inheritedMode(
  objects: Iterable<PeerAuthentication>,
  namespace: string,
  rootNamespace: string,
): Mode {
  const plain = [...objects].filter((object) => !hasSelector(object));
  const mesh = oldest(plain.filter((object) => object.metadata.namespace === rootNamespace));
  const own = oldest(plain.filter((object) => object.metadata.namespace === namespace));
  return modeHeld(own, modeHeld(mesh, 'PERMISSIVE'));
}

/** The object that speaks for a pod with these labels by its selector. */
export function selectingPeerAuthentication(
  objects: readonly PeerAuthentication[],
  namespace: string,
  labels: Labels,
  rootNamespace: string,
): PeerAuthentication | undefined {
  // Selectors in the root namespace are ignored: it speaks for the whole mesh only.
  if (namespace === rootNamespace) return undefined;
  return oldest(
    objects.filter(
      (object) =>
        object.metadata.namespace === namespace &&
        hasSelector(object) &&
        selects(object.spec?.selector?.matchLabels, labels),
    ),
  );
}

export function hasSelector(object: PeerAuthentication): boolean {
  return Object.keys(object.spec?.selector?.matchLabels ?? {}).length > 0;
}

/** What an object says, ports aside; what it leaves open is inherited. */
export function modeHeld(object: PeerAuthentication | undefined, inherited: Mode): Mode {
  const mode = modeOf(object);
  return mode === 'UNSET' ? inherited : mode;
}

export function modeOf(object: PeerAuthentication | undefined): MutualTlsMode {
  return object?.spec?.mtls?.mode ?? 'UNSET';
}

function selects(wanted: Labels, labels: Labels): boolean {
  return Object.entries(wanted ?? {}).every(([key, value]) => labels?.[key] === value);
}

/** The oldest decides; the name breaks a tie, so that every replica decides alike. */
export function oldest(objects: readonly PeerAuthentication[]): PeerAuthentication | undefined {
  const age = (object: PeerAuthentication) =>
    `${object.metadata.creationTimestamp ?? ''} ${objectKey(object)}`;
  return objects.reduce<PeerAuthentication | undefined>(
    (first, object) => (first === undefined || age(object) < age(first) ? object : first),
    undefined,
  );
}
