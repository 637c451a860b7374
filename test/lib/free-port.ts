// A port of 127.0.0.1 for a program that is told one, as the API server's.

import { once } from 'node:events';
import { createServer } from 'node:net';
import { errnoOf } from '#base/errors.ts';

/**
 * Below the ports that kernels give out by themselves (32768 and above) and those of node ports (30000 and above): nobody is
 * given it between the look and its use, except by the rare chance of another test's draw.
 */
const FIRST = 20_000;
const COUNT = 10_000;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const probe = createServer().listen(port, '127.0.0.1');
    try {
      await once(probe, 'listening');
    } catch (error) {
      if (errnoOf(error) === 'EADDRINUSE') continue;
      throw error;
    }
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
