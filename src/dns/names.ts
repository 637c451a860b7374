// Which names of the mesh a name that a pod asks for may mean (ztunnel.md §10.2): as it stands, as the short form of a
// Kubernetes name, and as either of these with a search domain appended by the pod's own resolver. Pure.

export interface Alias {
  readonly name: string;
  /** Set when a search domain was taken off: the name that the asker had in mind. */
  readonly stripped: string | undefined;
}

/** Names are lower case, without the final dot. In the order in which they are to be tried; no name twice. */
export function aliasesOf(
  name: string,
  clientNamespace: string,
  clusterDomain: string,
  searchDomains: readonly string[],
): Alias[] {
  const found = new Map<string, Alias>();
  const add = (alias: string, stripped: string | undefined): void => {
    if (!found.has(alias)) found.set(alias, { name: alias, stripped });
  };
  add(name, undefined);
  for (const expanded of kubernetesNames(name, clientNamespace, clusterDomain)) add(expanded, undefined);
  for (const domain of searchDomains) {
    if (!name.endsWith(`.${domain}`)) continue;
    const stripped = name.slice(0, -domain.length - 1);
    add(stripped, stripped);
    for (const expanded of kubernetesNames(stripped, clientNamespace, clusterDomain)) add(expanded, stripped);
  }
  return [...found.values()];
}

/** `service`, `service.namespace`, `service.namespace.svc`; and with the name of a pod in front. */
function kubernetesNames(name: string, clientNamespace: string, clusterDomain: string): string[] {
  const labels = name === '' ? 0 : name.split('.').length;
  const endsInSvc = name.endsWith('.svc');
  switch (labels) {
    case 1:
      return [`${name}.${clientNamespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${clientNamespace}.svc.${clusterDomain}`];
    case 3:
      return [...(endsInSvc ? [`${name}.${clusterDomain}`] : []), `${name}.svc.${clusterDomain}`];
    case 4:
      return endsInSvc ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

/** The name itself, then wildcards from the nearest: `a.b.c`, `*.b.c`, `*.c`. */
export function withWildcards(name: string): string[] {
  const names = [name];
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1))
    names.push(`*${name.slice(dot)}`);
  return names;
}

/** What kubelet writes into a pod's resolv.conf; the pod's own file is out of our sight. */
export function kubernetesSearchDomains(clientNamespace: string, clusterDomain: string): string[] {
  return [`${clientNamespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}
