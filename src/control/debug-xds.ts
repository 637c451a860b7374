// The state of this control plane over xDS, as istioctl asks for it (control-plane.md §10.1, §10.4): `istio.io/debug/syncz`
// for how far every proxy is, `istio.io/debug` with the name of a debug page for that page.

import { VERSION } from '#base/version.ts';
import { GRPC_INVALID_ARGUMENT, GRPC_PERMISSION_DENIED, statusError } from '#grpc/status.ts';
import { CLIENT_CONFIG_TYPE_URL, type ConfigState, encodeClientConfig } from '#proto/status.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { AnswerDebug } from '#xds/source.ts';
import type { SubscriptionInfo } from '#xds/subscription.ts';
import type { ControlPlaneOptions } from './config.ts';
import { askDebugPage, type DebugPages, debugText } from './debug-page.ts';

export interface DebugAnswersDeps {
  readonly systemNamespace: string;
  readonly clients: () => readonly XdsClientInfo[];
  readonly pages: DebugPages;
}

const PAGE_TYPE = 'istio.io/debug';
const SYNCZ_TYPE = 'istio.io/debug/syncz';

/** Callers outside the system namespace are shown the proxies of their own namespace. */
export function debugAnswers({ systemNamespace, clients, pages }: DebugAnswersDeps): AnswerDebug {
  return ({ typeUrl, names, caller }) => {
    const seesAll = caller.namespace === systemNamespace;
    if (typeUrl === SYNCZ_TYPE)
      return clients().flatMap((client) => {
        const { node, caller: of } = client;
        // Who has subscribed to nothing is no proxy but somebody who asks.
        if (node === undefined || client.subscriptions.length === 0) return [];
        if (!seesAll && of.namespace !== caller.namespace) return [];
        return [
          { name: node, version: '', typeUrl: CLIENT_CONFIG_TYPE_URL, bytes: clientConfig(node, client) },
        ];
      });
    const [target, ...more] = names;
    if (typeUrl !== PAGE_TYPE || target === undefined || more.length > 0)
      throw statusError(
        GRPC_INVALID_ARGUMENT,
        `${typeUrl} is not answered; ask for ${SYNCZ_TYPE}, or for ${PAGE_TYPE} with one of ${[...pages.keys()].join(', ')}`,
      );
    // As in an address: `config_dump?proxyID=…`.
    const [name = '', parameters] = target.split('?', 2);
    const answer = askDebugPage(pages, name, {
      parameters: new URLSearchParams(parameters),
      namespace: seesAll ? undefined : caller.namespace,
      besides: [],
    });
    if (answer.status === 403) throw statusError(GRPC_PERMISSION_DENIED, answer.explain);
    // That a proxy is not here is an answer: istioctl then asks the next replica.
    if (answer.status !== 200 && !(answer.status === 404 && pages.has(name)))
      throw statusError(GRPC_INVALID_ARGUMENT, answer.explain);
    const text = answer.status === 200 ? debugText(answer.content) : `${answer.explain}\n`;
    return [{ name: target, version: '', typeUrl: PAGE_TYPE, bytes: Buffer.from(text) }];
  };
}

function clientConfig(nodeId: string, { metadata, subscriptions }: XdsClientInfo): Uint8Array {
  const { CLUSTER_ID, NAMESPACE, ISTIO_VERSION } = metadata;
  const shown = Object.entries({ CLUSTER_ID, NAMESPACE, ISTIO_VERSION }).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value] as const],
  );
  return encodeClientConfig({
    nodeId,
    metadata: Object.fromEntries(shown),
    types: subscriptions.map((subscription) => ({
      typeUrl: subscription.typeUrl,
      state: stateOf(subscription),
      updatedAt: subscription.sentAt,
      error: subscription.rejected?.message,
    })),
  });
}

/** control-plane.md §10.4: derived from the nonces. */
export function stateOf({ rejected, sentNonce, ackedNonce }: SubscriptionInfo): ConfigState {
  if (rejected !== undefined) return 'error';
  if (sentNonce === '') return 'not sent';
  return sentNonce === ackedNonce ? 'synced' : 'stale';
}

/** In every response, so that tools know who answered. */
export function identifierOf({ instance }: ControlPlaneOptions): string {
  return JSON.stringify({
    Component: 'istiod',
    ID: instance,
    Info: { version: VERSION, revision: '', golang_version: '', status: '', tag: VERSION },
  });
}
