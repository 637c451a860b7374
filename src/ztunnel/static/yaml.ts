// The YAML library behind a module of ours: imported on demand, a CommonJS package has no named exports in a bundle.

import { parse } from 'yaml';

/** A plain value. @throws when the text is neither YAML nor JSON. */
export function parseYaml(text: string): unknown {
  return parse(text) as unknown;
}
