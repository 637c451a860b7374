// A visitor: a gentle, steady load on the shop's front; every third page is an order.

import { fetchJson } from './lib/service.ts';

const periodMs = Number(process.env.PERIOD_MS ?? '1000');
const shop = process.env.SHOP_URL ?? 'http://web.shop:8080';
let visits = 0;

function visit(): void {
  visits += 1;
  const path = visits % 3 === 0 ? '/order' : '/';
  fetchJson(`${shop}${path}`).then(
    () => console.log(`visitor: ${path} ok`),
    (error: Error) => console.log(`visitor: ${path} failed: ${error.message}`),
  );
}

setInterval(visit, periodMs);
visit();
console.log(`visitor: one page every ${periodMs} ms from ${shop}`);
process.on('SIGTERM', () => process.exit(0));
