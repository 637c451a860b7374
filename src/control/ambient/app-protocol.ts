// Which application protocol a port of a service speaks (control-plane.md §2.13). Node proxies do not use it; readers
// of the API at layer 7 do.

import type { ServicePort } from '#k8s/objects.ts';
import type { AppProtocol } from '#model/service.ts';

const BY_NAME: ReadonlyMap<string, AppProtocol> = new Map(
  Object.entries({
    http: 'HTTP11',
    http2: 'HTTP2',
    grpc: 'GRPC',
    https: 'TLS',
    tls: 'TLS',
    tcp: 'TCP',
  } as const),
);

/** What Kubernetes itself names in `appProtocol`. */
const BY_FIELD: ReadonlyMap<string, AppProtocol> = new Map(
  Object.entries({
    'kubernetes.io/h2c': 'HTTP2',
    'kubernetes.io/ws': 'HTTP11',
    'kubernetes.io/wss': 'TLS',
  } as const),
);

/** Of a ServiceEntry's port. */
export function protocolNamed(text: string | undefined): AppProtocol {
  return BY_NAME.get(text?.toLowerCase() ?? '') ?? 'UNKNOWN';
}

/** The field first; else the name of the port up to its first dash; else what is known of the number. */
export function kubeAppProtocol({ name = '', appProtocol, port, protocol }: ServicePort): AppProtocol {
  if (protocol === 'UDP') return 'UNKNOWN';
  const standard = BY_FIELD.get(appProtocol ?? '');
  if (standard !== undefined) return standard;
  const text = (appProtocol ?? name).toLowerCase();
  // The one name with a dash of its own.
  if (text.startsWith('grpc-web')) return 'UNKNOWN';
  const prefix = text.split('-', 1)[0] ?? '';
  const named = BY_NAME.get(prefix);
  if (named !== undefined) return named;
  return SERVER_FIRST.includes(port) ? 'TCP' : 'UNKNOWN';
}

/** Protocols in which the server may speak first: who waits for the bytes of the client waits for ever. */
const SERVER_FIRST: readonly number[] = [25, 53, 3306, 27017];
