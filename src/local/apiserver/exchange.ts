// One request and its answer, apart from sockets: what the verbs read, and the few forms of answer they give.

import type { Upgrade } from '../streams/upgrade.ts';
import type { PodLogOptions } from './logs.ts';
import type { User } from './user-info.ts';
import type { WatchSink } from './watch.ts';

export interface ApiRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  readonly contentType: string | undefined;
  readonly userAgent: string | undefined;
  readonly user: User;
  readonly body: Buffer;
}

export type ApiAnswer =
  | {
      readonly kind: 'json';
      readonly code: number;
      /** JSON text, ready to send; YAML is made from it where asked for. */
      readonly text: string;
      readonly contentType?: string;
      readonly warnings?: readonly string[];
      readonly etag?: string;
    }
  | { readonly kind: 'text'; readonly code: number; readonly text: string }
  | { readonly kind: 'bytes'; readonly code: number; readonly bytes: Buffer; readonly contentType: string }
  /** `start` is called once the head is out; it returns how to stop when the client goes away. */
  | { readonly kind: 'watch'; readonly start: (sink: WatchSink) => () => void }
  | {
      readonly kind: 'stream';
      readonly open: (signal: PodLogOptions['signal']) => AsyncIterable<Uint8Array>;
    }
  /** The connection leaves HTTP. `begin` takes it over, or throws a StatusError while nothing has been sent. */
  | { readonly kind: 'upgrade'; readonly begin: (upgrade: Upgrade) => void };

export const json = (code: number, body: unknown, warnings?: readonly string[]): ApiAnswer => ({
  kind: 'json',
  code,
  text: JSON.stringify(body),
  ...(warnings === undefined || warnings.length === 0 ? {} : { warnings }),
});
