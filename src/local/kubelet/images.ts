// "Images" of local mode: names of programs. Nothing is pulled.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '#k8s/objects.ts';
import { NODE_FLAGS } from '../machine/plan.ts';

export interface ImageOptions {
  /** The project's directory. */
  readonly root: string;
  /** Absolute path of the Node binary. */
  readonly node: string;
  /** What runs here in place of `local/NAME`, if anything does. */
  readonly replacement?: (name: string) => readonly string[] | undefined;
}

export type CommandLine =
  | { readonly kind: 'command'; readonly argv: readonly string[] }
  | { readonly kind: 'unknown-image'; readonly message: string };

const PREFIX = 'local/';

/** The command line of a container: `command` replaces the image's own, `args` are appended. */
export function resolveImage(container: Container, options: ImageOptions): CommandLine {
  const { image, command = [], args = [] } = container;
  const name = image.startsWith(PREFIX) ? image.slice(PREFIX.length).replace(/:[\w.-]+$/, '') : undefined;
  if (name === undefined || !/^[a-z0-9][a-z0-9-]*$/.test(name)) {
    return {
      kind: 'unknown-image',
      message: `image "${image}" cannot be pulled: local mode runs programs of this machine; use image local/shell with a command, or local/NAME for a program of Culvert`,
    };
  }
  if (command.length > 0) return { kind: 'command', argv: [...command, ...args] };
  if (name === 'shell') return { kind: 'command', argv: ['/bin/sh', ...args] };
  const replacement = options.replacement?.(name);
  if (replacement !== undefined) return { kind: 'command', argv: [...replacement, ...args] };
  const bundle = join(options.root, 'dist', `${name}.mjs`);
  if (!existsSync(bundle)) {
    return {
      kind: 'unknown-image',
      message: `image "${image}" names no program: ${bundle} does not exist; local/NAME runs dist/NAME.mjs, local/shell runs /bin/sh`,
    };
  }
  return { kind: 'command', argv: [options.node, ...NODE_FLAGS, bundle, ...args] };
}
