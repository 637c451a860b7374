// `portforward.k8s.io`: for every connection the client opens an `error` and a `data` stream with one `requestid`. The pod is
// dialled when both are there; what goes wrong is a sentence on the error stream.

import { pipeline } from 'node:stream';
import { reasonOf } from '#base/errors.ts';
import { firstHeader } from '#k8s/streams/spdy-headers.ts';
import type { Logger } from '#telemetry/log.ts';
import { ended } from './command-client.ts';
import type { Dial } from './pod-streams.ts';
import type { SpdyStream } from './spdy-stream.ts';

/** As kubelets wait for the second stream of a pair. */
const PAIR_LIMIT_MS = 30_000;

interface Pair {
  readonly port: number;
  readonly timer: NodeJS.Timeout;
  error?: SpdyStream;
  data?: SpdyStream;
}

export interface ForwardDeps {
  readonly dial: Dial;
  /** Names the pod in errors: `pod shop-1, uid …`. */
  readonly target: string;
  readonly log: Logger;
}

/** Takes the streams of one connection; `close` forgets incomplete pairs. */
export class PortForward {
  readonly #deps: ForwardDeps;
  readonly #pairs = new Map<string, Pair>();

  constructor(deps: ForwardDeps) {
    this.#deps = deps;
  }

  onStream(stream: SpdyStream): void {
    stream.on('error', () => {}); // followed by close
    const type = firstHeader(stream.headers, 'streamtype');
    const port = parsePort(firstHeader(stream.headers, 'port'));
    if ((type !== 'error' && type !== 'data') || port === undefined) {
      stream.refuse();
      return;
    }
    const id = requestId(stream, type);
    const pair = this.#pairs.get(id) ?? this.#newPair(id, port);
    if (pair[type] !== undefined || pair.port !== port) {
      stream.refuse();
      return;
    }
    pair[type] = stream;
    stream.accept();
    if (pair.error === undefined || pair.data === undefined) return;
    clearTimeout(pair.timer);
    this.#pairs.delete(id);
    this.#forward(port, pair.data, pair.error).catch((error: unknown) =>
      this.#deps.log.warn('a forwarded connection failed', { error: reasonOf(error) }),
    );
  }

  close(): void {
    for (const { timer } of this.#pairs.values()) clearTimeout(timer);
    this.#pairs.clear();
  }

  #newPair(id: string, port: number): Pair {
    const timer = setTimeout(() => {
      const { error, data } = this.#pairs.get(id) ?? {};
      this.#pairs.delete(id);
      error?.end(`timed out waiting for streams of request ${id}`);
      data?.destroy();
    }, PAIR_LIMIT_MS);
    const pair: Pair = { port, timer };
    this.#pairs.set(id, pair);
    return pair;
  }

  async #forward(port: number, data: SpdyStream, error: SpdyStream): Promise<void> {
    error.resume();
    try {
      const socket = await this.#deps.dial(port);
      await new Promise<void>((resolve, reject) => {
        let open = 2;
        const over = (failure: NodeJS.ErrnoException | null): void => {
          // A client that goes away in the middle is no failure of the pod.
          if (failure !== null && failure !== undefined && failure.code !== 'ERR_STREAM_PREMATURE_CLOSE')
            reject(failure);
          else if (--open === 0) resolve();
        };
        pipeline(data, socket, over);
        pipeline(socket, data, over);
      });
    } catch (failure) {
      const { target } = this.#deps;
      error.write(`error forwarding port ${port} to ${target}: ${reasonOf(failure)}`);
      data.destroy();
    }
    await ended(error);
  }
}

/** Clients before 1.4 sent none: the data stream comes right after its error stream there. */
function requestId(stream: SpdyStream, type: 'error' | 'data'): string {
  const id = firstHeader(stream.headers, 'requestid');
  if (id !== '') return id;
  return String(type === 'error' ? stream.id : stream.id - 2);
}

function parsePort(text: string): number | undefined {
  const port = Number(text);
  return /^\d{1,5}$/.test(text) && port >= 1 && port <= 65535 ? port : undefined;
}
