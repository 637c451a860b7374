// `culvert-cni`, called by the container runtime: configuration on stdin, result or error on stdout, nothing else there.

import { readFileSync } from 'node:fs';
import { runPlugin } from '#cni/plugin.ts';

const { stdout, exitCode } = await runPlugin({ env: process.env, stdin: readFileSync(0, 'utf8') });
process.stdout.write(stdout);
process.exitCode = exitCode;
