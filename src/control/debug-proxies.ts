// Debug pages about one connected proxy, named by `?proxyID=` (control-plane.md §10.1).

import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { resourceJson } from '#proto/resource-json.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { WORKLOAD_TYPE_URL } from '#proto/workload-part.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { XdsServer } from '#xds/server.ts';
import type { DebugAnswer, DebugQuery } from './debug-page.ts';

export type Proxies = Pick<XdsServer, 'clients' | 'resources' | 'disconnect'>;

/** istioctl looks for these words, and asks the next replica when it finds them. */
const NOT_HERE = 'Proxy not connected to this Pilot instance. It may be connected to another instance.';

/** What types are called for short; a workload is an address, too. */
const SHORT_TYPES: ReadonlyMap<string, readonly string[]> = new Map([
  ['WDS', [ADDRESS_TYPE_URL, WORKLOAD_TYPE_URL]],
  ['WADS', [AUTHORIZATION_TYPE_URL]],
]);
const TYPES: readonly string[] = [ADDRESS_TYPE_URL, WORKLOAD_TYPE_URL, AUTHORIZATION_TYPE_URL];

/**
 * What the proxy is to have, as its subscriptions and the mesh are now, in the form of Envoy's configuration dump: the
 * addresses, or the `types` that are named.
 */
export function configDump(proxies: Proxies, query: DebugQuery): DebugAnswer {
  const proxy = proxyOf(proxies, 'config_dump', query);
  if ('status' in proxy) return proxy;
  const wanted = query.parameters.get('types') || ADDRESS_TYPE_URL;
  const types = [
    ...new Set(wanted.split(',').flatMap((name) => SHORT_TYPES.get(name.toUpperCase()) ?? [name])),
  ];
  const unknown = types.filter((typeUrl) => !TYPES.includes(typeUrl));
  if (unknown.length > 0)
    return {
      status: 400,
      explain: `types=${unknown.join(',')} is not served; there are wds and wads, and ${TYPES.join(', ')}`,
    };
  const configs = types.flatMap((typeUrl) =>
    [...proxies.resources(proxy.id, typeUrl)]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map(({ bytes }) => resourceJson(typeUrl, bytes)),
  );
  return { status: 200, content: configs.length === 0 ? {} : { configs } };
}

/** Its stream ends, and it comes back: to a replica that it is balanced to. */
export function forceDisconnect(proxies: Proxies, query: DebugQuery): DebugAnswer {
  const proxy = proxyOf(proxies, 'force_disconnect', query);
  if ('status' in proxy) return proxy;
  proxies.disconnect(proxy.id);
  return { status: 200, content: { disconnected: connectionId(proxy) } };
}

/** All clients, or the one that the query names. */
export function clientsAsked(
  proxies: Proxies,
  page: string,
  query: DebugQuery,
): readonly XdsClientInfo[] | Refusal {
  if (!query.parameters.has('proxyID')) return proxies.clients();
  const proxy = proxyOf(proxies, page, query);
  return 'status' in proxy ? proxy : [proxy];
}

type Refusal = Exclude<DebugAnswer, { readonly status: 200 }>;

/** By its whole name (`ztunnel-abcde.istio-system`) or, as the field does, by any part of its connection's. */
function proxyOf(
  proxies: Proxies,
  page: string,
  { parameters, namespace }: DebugQuery,
): XdsClientInfo | Refusal {
  const wanted = parameters.get('proxyID') ?? '';
  if (wanted === '')
    return { status: 400, explain: `${page} needs the proxy: ${page}?proxyID=ztunnel-abcde.istio-system` };
  // Whose it is not is not told from what is not there. Who has subscribed to nothing is no proxy but somebody who asks.
  const seen = proxies
    .clients()
    .filter(({ caller }) => namespace === undefined || caller.namespace === namespace)
    .filter(({ node, subscriptions }) => node !== undefined && subscriptions.length > 0);
  return (
    seen.find(({ node }) => node?.split('~')[2] === wanted) ??
    seen.find((client) => connectionId(client).includes(wanted)) ?? { status: 404, explain: NOT_HERE }
  );
}

export const connectionId = ({ id, node }: XdsClientInfo): string => `${node ?? ''}-${id}`;
