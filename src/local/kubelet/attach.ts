// A client on a running container's own streams (kubectl attach): its output from now on, and its input if it has one.

import type { Writable } from 'node:stream';
import type { CommandEnd, CommandStreams } from '#local/streams/pod-streams.ts';
import type { RunningContainer } from './container.ts';

/** The container does not wait for its watchers: one that lets this much pile up is let go. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

/** Ends with the container, with the client, or when the client cannot keep up. Never rejects. */
export async function attachTo(
  container: RunningContainer,
  { stdin, stdout, stderr, gone, onResize }: CommandStreams,
): Promise<CommandEnd> {
  let detach: (end: CommandEnd) => void = () => {};
  const detached = new Promise<CommandEnd>((resolve) => {
    detach = resolve;
  });
  const stopListening = container.onOutput((stream, chunk) => {
    const client: Writable | undefined = stream === 'stdout' ? stdout : stderr;
    if (client === undefined || client.destroyed) return;
    client.write(chunk);
    if (client.writableLength > MAX_UNREAD_BYTES)
      detach({
        kind: 'failed',
        message: `the client reads too slowly: more than ${MAX_UNREAD_BYTES} bytes are waiting`,
      });
  });
  if (container.hasTerminal) onResize((size) => container.resize(size));
  const clientGone = (): void => detach({ kind: 'exited', code: 0 });
  gone.addEventListener('abort', clientGone);
  if (gone.aborted) clientGone();
  const input = stdin === undefined ? undefined : container.openInput();
  if (stdin !== undefined && input !== undefined) {
    const drop = (): void => {
      stdin.unpipe(input);
      stdin.resume();
    };
    input.on('error', drop);
    input.on('close', drop);
    stdin.pipe(input);
  }
  // The container's exit code is in its status; an attached client is told that it is over.
  const result = await Promise.race([
    detached,
    container.ended.then((): CommandEnd => ({ kind: 'exited', code: 0 })),
  ]);
  stopListening();
  gone.removeEventListener('abort', clientGone);
  input?.destroy();
  return result;
}
