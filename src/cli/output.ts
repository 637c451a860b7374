// The forms in which commands print objects, and the check of `-o`.

import { InvalidArgumentError } from 'commander';
import type { Output } from './command.ts';

export type OutputForm = 'json' | 'yaml' | 'wide' | 'short';

/** For an option `-o, --output`; `short` is the table that people read. */
export const outputOption =
  <Form extends OutputForm>(...allowed: readonly Form[]) =>
  (text: string): Form => {
    const form = allowed.find((name) => name === text);
    if (form === undefined)
      throw new InvalidArgumentError(
        `${JSON.stringify(text)} is no form of output; there are: ${allowed.join(', ')}.`,
      );
    return form;
  };

/** A document, or one after the other when there are several. */
export async function printValues(
  out: Output,
  form: 'json' | 'yaml',
  values: readonly unknown[],
): Promise<void> {
  if (form === 'json') {
    const value = values.length === 1 ? values[0] : { apiVersion: 'v1', kind: 'List', items: values };
    out.write(`${JSON.stringify(value, undefined, 2)}\n`);
    return;
  }
  const { stringify } = await import('yaml');
  out.write(values.map((value) => stringify(value, { aliasDuplicateObjects: false })).join('---\n'));
}

export async function printValue(out: Output, form: 'json' | 'yaml', value: unknown): Promise<void> {
  if (form === 'json') out.write(`${JSON.stringify(value, undefined, 2)}\n`);
  else out.write((await import('yaml')).stringify(value, { aliasDuplicateObjects: false }));
}
