// Whether other threads still answer. One that hangs keeps its share of the connections waiting, so the probe must say it,
// and the process must end when it lasts.

/** One thread, as whoever watches it sees it. */
export interface Watched {
  readonly name: string;
  /** Resolves when the thread has done what it was told. */
  answer(): Promise<unknown>;
}

/** A question is put this often, and each time the one before is looked after. */
export const ASK_EVERY_MS = 5000;
/** Looks in a row that found no answer. Looks and not time: while this thread hung or slept itself, nobody was late. */
export const LOOKS_UNTIL_HUNG = 6;

/** Names of those that have not answered within the limit. A thread that is gone is another's matter. */
export async function silentWithin(threads: readonly Watched[], limitMs: number): Promise<readonly string[]> {
  const silent = new Set(threads.map(({ name }) => name));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  const answers = threads.map(async (thread) => {
    await thread.answer();
    silent.delete(thread.name);
  });
  try {
    await Promise.race([Promise.all(answers), late]);
  } finally {
    clearTimeout(timer);
  }
  return [...silent];
}

/** `onHung` runs once, with the name of the first that hangs. Returns how to stop. */
export function watchThreads(
  threads: readonly Watched[],
  onHung: (name: string, silentMs: number) => void,
): () => void {
  const missed = new Map<string, number>();
  const timer = setInterval(() => {
    for (const { name, answer } of threads) {
      const looks = missed.get(name);
      if (looks === undefined) {
        missed.set(name, 0);
        // A failure is told of where threads end.
        const answered = (): boolean => missed.delete(name);
        answer().then(answered, answered);
      } else if (looks + 1 < LOOKS_UNTIL_HUNG) missed.set(name, looks + 1);
      else {
        clearInterval(timer);
        onHung(name, LOOKS_UNTIL_HUNG * ASK_EVERY_MS);
        return;
      }
    }
  }, ASK_EVERY_MS).unref();
  return () => clearInterval(timer);
}
