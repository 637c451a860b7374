// The size of a command's terminal, as its client tells it.

import { sleep } from '#base/clock.ts';
import type { CommandStreams, TerminalSize } from '#local/streams/pod-streams.ts';

/** A client without a window of its own never tells one. */
const FIRST_SIZE_LIMIT_MS = 1000;

/**
 * Hands every size to `apply`. Resolves with the first, so that a program which asks for its size when it starts hears the
 * client's and no 0 × 0 (kubectl sends it only after the streams stand), or after `limitMs`, or with the client's end.
 */
export async function followSize(
  client: Pick<CommandStreams, 'onResize' | 'gone'>,
  apply: (size: TerminalSize) => void,
  limitMs = FIRST_SIZE_LIMIT_MS,
): Promise<void> {
  const waiting = new AbortController();
  client.onResize((size) => {
    apply(size);
    waiting.abort();
  });
  await sleep(limitMs, AbortSignal.any([client.gone, waiting.signal]));
}
