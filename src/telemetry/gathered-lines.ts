// Log lines gathered: one system call for what a turn of the event loop has to say, and under load for what a few turns
// have. At a thousand new connections a second the lines alone were a tenth of the proxy's CPU.

export interface GatheredLines {
  write(line: string): void;
  /** To be called when the process ends: what waits would be lost. */
  flush(): void;
}

/** Above it lines are handed on early, so that a flood of them is not held twice. */
const FLUSH_CHARACTERS = 64 * 1024;
/** The pause after a write, which only a busy proxy notices: a line that comes alone is written with its turn. */
const REST_MS = 10;

export function gatherLines(write: (text: string) => void): GatheredLines {
  let waiting = '';
  /** `due`: to be written with this turn. `resting`: written a moment ago. */
  let state: 'idle' | 'due' | 'resting' = 'idle';
  const hand = (): void => {
    const text = waiting;
    waiting = '';
    if (text !== '') write(text);
  };
  const rested = (): void => {
    state = 'idle';
    if (waiting !== '') endTurn();
  };
  const endTurn = (): void => {
    hand();
    state = 'resting';
    // A process with nothing else to do need not wait for it: it flushes when it ends.
    setTimeout(rested, REST_MS).unref();
  };
  return {
    write(line) {
      waiting += line;
      if (waiting.length >= FLUSH_CHARACTERS) hand();
      else if (state === 'idle') {
        state = 'due';
        setImmediate(endTurn);
      }
    },
    flush: hand,
  };
}
