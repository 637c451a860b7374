// A FRONT of its own process, for tests that kill it: starts the machine named by its argument (MachineOptions without the
// logger, as JSON), prints one line with the machine's pid, then `ready`.

import { startMachine } from '#local/machine/front.ts';
import { createLogger } from '#telemetry/log.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as Omit<Parameters<typeof startMachine>[0], 'log'>;
const log = createLogger('front', {
  format: 'plain',
  level: 'warn',
  write: (line) => process.stderr.write(line),
});
const machine = await startMachine({ ...options, log });
process.stdout.write(`pid ${machine.pid}\n`);
await machine.ready;
process.stdout.write('ready\n');
