// The end of the embedded API server.

import { connect } from 'node:net';
import { test } from 'node:test';
import { withApiServer } from './apiserver-rig.ts';

test('closing does not hang on a connection whose TLS handshake never came', {
  timeout: 20_000,
}, async () => {
  await withApiServer(async ({ port }) => {
    await new Promise<void>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve());
      socket.once('error', reject);
    });
    // The server is closed when this function returns.
  });
});
