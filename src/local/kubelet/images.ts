// "Images" of local mode: names of programs. Nothing is pulled. A name means, in this order: an entry of the table
// (image-table.ts), `/bin/sh` for `shell`, the bundle dist/NAME.mjs.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '#base/errors.ts';
import type { Container } from '#k8s/objects.ts';
import { NODE_FLAGS } from '../machine/plan.ts';
import { IMAGE_NAME, type ImageTable } from './image-table.ts';

export interface ImageOptions {
  /** The project's directory. */
  readonly root: string;
  /** Absolute path of the Node binary. */
  readonly node: string;
  /** What runs here in place of `local/NAME`, if anything does. */
  readonly replacement?: (name: string) => readonly string[] | undefined;
  /** A person's own programs, as they are now. @throws MeshError when the table cannot be read. */
  readonly table: () => ImageTable;
}

export type CommandLine =
  | {
      readonly kind: 'command';
      readonly argv: readonly string[];
      /** Of the image; the container's own count more. */
      readonly workingDir?: string;
      readonly env?: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'unknown-image'; readonly message: string };

const PREFIX = 'local/';

/** The command line of a container: `command` replaces the image's own, `args` are appended. */
export function resolveImage(container: Container, options: ImageOptions): CommandLine {
  const { image, command = [], args = [] } = container;
  const name = image.startsWith(PREFIX) ? image.slice(PREFIX.length).replace(/:[\w.-]+$/, '') : undefined;
  if (name === undefined || !IMAGE_NAME.test(name)) {
    return {
      kind: 'unknown-image',
      message: `image "${image}" cannot be pulled: local mode runs programs of this machine; use image local/shell with a command, local/NAME for a program of Culvert, or name your own: culvert up --image NAME=COMMAND`,
    };
  }
  let table: ImageTable;
  try {
    table = options.table();
  } catch (error) {
    return { kind: 'unknown-image', message: `image "${image}" cannot be looked up: ${reasonOf(error)}` };
  }
  const program = table.get(name);
  if (program !== undefined)
    return { ...program, kind: 'command', argv: [...(command.length > 0 ? command : program.argv), ...args] };
  if (command.length > 0) return { kind: 'command', argv: [...command, ...args] };
  if (name === 'shell') return { kind: 'command', argv: ['/bin/sh', ...args] };
  const replacement = options.replacement?.(name);
  if (replacement !== undefined) return { kind: 'command', argv: [...replacement, ...args] };
  const bundle = join(options.root, 'dist', `${name}.mjs`);
  if (!existsSync(bundle)) {
    return {
      kind: 'unknown-image',
      message: `image "${image}" names no program: ${bundle} does not exist; local/NAME runs dist/NAME.mjs, local/shell runs /bin/sh, and images.yaml in the state directory or culvert up --image ${name}=COMMAND names your own`,
    };
  }
  return { kind: 'command', argv: [options.node, ...NODE_FLAGS, bundle, ...args] };
}
