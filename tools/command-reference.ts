// Writes docs/COMMANDS.md from the commands.   npm run generate:commands

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandReference } from '../src/cli/command-reference.ts';

const path = join(import.meta.dirname, '../docs/COMMANDS.md');
writeFileSync(path, commandReference());
