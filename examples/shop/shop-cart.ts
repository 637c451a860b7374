// The cart: asks the ledger, over its own line protocol, to book what was bought.

import { connect } from 'node:net';
import { serve } from './lib/service.ts';

let orders = 0;

/** One exchange with the ledger, which speaks first: greeting, our line, its receipt. */
function book(cents: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: 'ledger.shop', port: 7000 });
    let received = '';
    socket.setTimeout(5000, () => socket.destroy(new Error('ledger: no answer in 5 s')));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      const greeted = received.includes('\n');
      received += chunk;
      const lines = received.split('\n');
      if (!greeted && lines.length > 1) socket.end(`book ${cents}\n`);
    });
    socket.on('end', () => {
      const receipt = received.split('\n')[1];
      if (receipt === undefined || receipt === '') reject(new Error('ledger: closed without a receipt'));
      else resolve(receipt);
    });
    socket.on('error', (error) => reject(new Error(`ledger: ${error.message}`)));
  });
}

serve('cart', 8080, async () => {
  orders += 1;
  return { order: orders, receipt: await book(8900) };
});
