// exec and attach over SPDY/3.1, `v4.channel.k8s.io`: the client opens one stream each for error, input, outputs and resize.

import type { Readable } from 'node:stream';
import { MeshError } from '#base/errors.ts';
import { firstHeader } from '#k8s/streams/spdy-headers.ts';
import { type CommandClient, type CommandWish, ended, parseTerminalSize, Resizes } from './command-client.ts';
import type { SpdyConnection } from './spdy-connection.ts';
import type { SpdyStream } from './spdy-stream.ts';

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize';

const STREAMS_LIMIT_MS = 30_000;
const MAX_RESIZE_TEXT = 1024;

/** Gathers the streams that the query announced, then is ready to serve. */
export class SpdyCommandStreams {
  readonly #missing: Set<StreamType>;
  readonly #found = new Map<StreamType, SpdyStream>();
  readonly #gone = new AbortController();
  readonly complete: Promise<void>;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(wish: CommandWish) {
    this.#missing = expectedStreams(wish);
    this.complete = new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          this.#reject(
            new MeshError('STREAM_PROTOCOL', `no stream for ${[...this.#missing].join(', ')} was opened`),
          ),
        STREAMS_LIMIT_MS,
      );
      this.#resolve = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#reject = (error) => {
        clearTimeout(timer);
        reject(error);
      };
    });
  }

  onStream(stream: SpdyStream): void {
    const type = firstHeader(stream.headers, 'streamtype') as StreamType;
    if (!this.#missing.delete(type)) {
      stream.refuse();
      return;
    }
    this.#found.set(type, stream);
    stream.on('error', () => {}); // followed by close
    stream.accept();
    if (this.#missing.size === 0) this.#resolve();
  }

  onClose(): void {
    this.#reject(new MeshError('STREAM_PROTOCOL', 'the client went away'));
    this.#gone.abort();
  }

  client(connection: SpdyConnection): CommandClient {
    const stream = (type: StreamType): SpdyStream | undefined => this.#found.get(type);
    const resizes = new Resizes();
    const resize = stream('resize');
    if (resize !== undefined) readSizes(resize, resizes);
    // Only ours to write: what the client might send there is passed over.
    for (const type of ['error', 'stdout', 'stderr'] as const) stream(type)?.resume();
    const stdout = stream('stdout');
    const stderr = stream('stderr');
    return {
      stdin: stream('stdin'),
      stdout,
      stderr,
      onResize: resizes.listen,
      gone: this.#gone.signal,
      finish: async (status) => {
        await Promise.all([ended(stdout), ended(stderr)]);
        const error = stream('error');
        if (error?.writable === true) error.write(status);
        await ended(error);
        connection.close();
      },
    };
  }
}

function expectedStreams({ stdin, stdout, stderr, tty }: CommandWish): Set<StreamType> {
  const types = new Set<StreamType>(['error']);
  if (stdin) types.add('stdin');
  if (stdout) types.add('stdout');
  if (stderr && !tty) types.add('stderr');
  if (tty) types.add('resize');
  return types;
}

/** JSON objects one after the other, each on a line of its own as Go's encoder writes them. */
function readSizes(stream: Readable, resizes: Resizes): void {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    const objects = text.split(/(?<=\})/);
    text = objects.at(-1)?.endsWith('}') === true ? '' : (objects.pop() ?? '');
    for (const object of objects) resizes.set(parseTerminalSize(object));
    if (text.length > MAX_RESIZE_TEXT) text = '';
  });
}
