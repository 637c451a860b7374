// A list in pages: an API server answers many small questions more easily than a large one, and all pages show the state of
// one moment.

import { apiStatusOf } from './status.ts';

/** As the API server answers one page of a list. */
export interface ListPage<T> {
  readonly items?: T[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

/** What kubectl and the field's reflectors ask for. */
const PAGE_ITEMS = 500;

/**
 * When the moment has been compacted away between two pages (410), what came of it is dropped, and the whole list is asked
 * for at once: its answer cannot come too late.
 */
export async function listInPages<T>(
  ask: (page: { readonly limit?: string; readonly continue?: string }) => Promise<ListPage<T>>,
): Promise<{ readonly items: T[]; readonly resourceVersion: string }> {
  const first = await ask({ limit: String(PAGE_ITEMS) });
  const items = first.items ?? [];
  let next = first.metadata?.continue;
  while (next !== undefined && next !== '') {
    let page: ListPage<T>;
    try {
      page = await ask({ limit: String(PAGE_ITEMS), continue: next });
    } catch (error) {
      if (apiStatusOf(error)?.status !== 410) throw error;
      const whole = await ask({});
      return { items: whole.items ?? [], resourceVersion: whole.metadata?.resourceVersion ?? '' };
    }
    for (const item of page.items ?? []) items.push(item);
    next = page.metadata?.continue;
  }
  return { items, resourceVersion: first.metadata?.resourceVersion ?? '' };
}
