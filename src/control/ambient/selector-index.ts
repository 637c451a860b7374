// Services by what they select, so that a pod finds its services without asking all of the namespace: a selector is
// filed under one of its pairs, and a pod looks under each of its own.

import { GroupIndex } from './group-index.ts';
import { type Labels, selectsLabels } from './labels.ts';

export class SelectorIndex {
  readonly #byPair = new GroupIndex();
  readonly #selectors = new Map<string, { readonly namespace: string; readonly selector: Labels }>();

  set(key: string, namespace: string, selector: Labels): void {
    this.delete(key);
    const pair = pairOf(selector);
    if (pair === undefined) return;
    this.#selectors.set(key, { namespace, selector });
    this.#byPair.add(`${namespace} ${pair}`, key);
  }

  delete(key: string): void {
    const held = this.#selectors.get(key);
    if (held === undefined) return;
    this.#selectors.delete(key);
    this.#byPair.remove(`${held.namespace} ${pairOf(held.selector)}`, key);
  }

  /** Keys of the non-empty selectors of the namespace that the labels satisfy. */
  *matching(namespace: string, labels: Labels): Iterable<string> {
    for (const name in labels)
      for (const key of this.#byPair.get(`${namespace} ${name}=${labels[name]}`))
        if (selectsLabels(this.#selectors.get(key)?.selector, labels)) yield key;
  }
}

function pairOf(selector: Labels): string | undefined {
  for (const name in selector) return `${name}=${selector[name]}`;
  return undefined;
}
