// The shop's front: asks the catalog and the cart for every page.

import { fetchJson, serve } from './lib/service.ts';

serve('web', 8080, async (path) => {
  if (path === '/order') return { cart: await fetchJson('http://cart.shop:8080/') };
  return { items: await fetchJson('http://catalog.shop:8080/') };
});
