// Waiting for what a test has set off.

import { sleep } from '#base/clock.ts';

/** For broken code only: a machine under load may take its time. */
const LIMIT_MS = 60_000;
const LONGEST_PAUSE_MS = 50;

/** Looks again and again, soon at first, until there is something to be seen; resolves with it. What `look` throws ends it. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  limitMs = LIMIT_MS,
): Promise<Exclude<T, false | undefined>> {
  const deadline = performance.now() + limitMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const found = await look();
    if (found !== undefined && found !== false) return found as Exclude<T, false | undefined>;
    if (performance.now() > deadline) throw new Error(`not within ${limitMs / 1000} s: ${what}`);
    await sleep(pauseMs);
  }
}

/** The same, whose error tells what was seen instead. */
export const untilTelling =
  (told: () => string): typeof until =>
  (what, look, limitMs) =>
    until(what, look, limitMs).catch((error: Error) => {
      throw new Error(`${error.message}\n${told()}`);
    });
