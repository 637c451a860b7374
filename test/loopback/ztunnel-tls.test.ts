// Certificates in a running mesh of two data planes: five rotations under load, and a revocation as both access logs
// tell it.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { formatSpiffeId } from '#model/identity.ts';
import { createAuthority, parseCsr } from '#tls/issue.ts';
import type { CertificateAuthorityClient } from '#tls/secret.ts';
import type { ZtunnelConfig } from '#ztunnel/config.ts';
import { crlPem, newCrl } from '../lib/crls.ts';
import { until } from '../lib/until.ts';
import { application, ownAddress, readAll, startPlane, type TestPlane, workload } from './ztunnel-rig.ts';

interface Mesh {
  readonly near: TestPlane;
  readonly far: TestPlane;
  /** From the pod on the near node to the one on the far. */
  readonly dial: () => net.Socket;
}

let meshes = 0;

/** Two nodes with a pod each; the far one echoes. */
async function startMesh(
  t: TestContext,
  ca: CertificateAuthorityClient,
  settings: Partial<ZtunnelConfig> = {},
): Promise<Mesh> {
  meshes += 1;
  const cart = workload('cart', ownAddress(2 * meshes), 'n1');
  const stock = workload('stock', ownAddress(2 * meshes + 1), 'n2');
  const { port, server } = await application(stock.ips[0]!, (socket) => socket.pipe(socket));
  t.after(() => server.close());
  const planes: TestPlane[] = [];
  for (const node of ['n1', 'n2']) {
    const started = await startPlane(node, ca, settings);
    t.after(() => started.plane.close());
    started.plane.store.apply({
      addresses: [cart, stock].map((of) => ({ kind: 'workload', workload: of })),
    });
    planes.push(started);
  }
  const [near, far] = planes as [TestPlane, TestPlane];
  await near.addPod(cart);
  await far.addPod(stock);
  return { near, far, dial: () => near.capture.dialFrom(cart.ips[0]!, `${stock.ips[0]}:${port}`) };
}

async function echoed(mesh: Mesh, text: string): Promise<string> {
  const socket = mesh.dial();
  socket.end(text);
  return (await readAll(socket)).toString();
}

describe('certificates of a running mesh', () => {
  it('are rotated five times under load, and nothing is dropped', async (t) => {
    const authority = await createAuthority({ organization: 'test', validDays: 1 });
    let issued = 0;
    const mesh = await startMesh(
      t,
      {
        // Past their half-life on arrival, they are refreshed as fast as it is allowed; the clock need not be waited for.
        sign: async (identity, csrPem) => {
          issued += 1;
          const { certPem } = await authority.issue({
            uris: [identity],
            publicKey: parseCsr(csrPem).publicKeySpki,
            validForMs: 60_000,
            backdateMs: 600_000,
          });
          return [certPem, authority.certPem];
        },
      },
      // One stream for each session: every request is a handshake with the certificates of the moment.
      { poolMaxStreams: 1 },
    );
    const held = mesh.dial();
    held.write('before ');
    const serials = new Set<string>();
    let requests = 0;
    while (serials.size < 6) {
      const answers = await Promise.all([1, 2, 3].map((n) => echoed(mesh, `request ${requests} ${n}`)));
      assert.deepEqual(
        answers,
        [1, 2, 3].map((n) => `request ${requests} ${n}`),
      );
      requests += 1;
      const state = mesh.near.plane.secrets
        .entries()
        .get(formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' }));
      if (state?.state === 'Available') serials.add(state.secret.serialNumber);
      assert.ok(issued < 100, 'certificates are issued without end');
    }
    held.end('and after five rotations');
    assert.equal((await readAll(held)).toString(), 'before and after five rotations');
    for (const { access } of [mesh.near, mesh.far]) assert.deepEqual(access('error='), []);
  });

  it('are no longer good when a list revokes them: live connections end, new ones are refused, both logs say why', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const crlPath = join(dir, 'crl.pem');
    writeFileSync(crlPath, '');
    const authority = await createAuthority({ organization: 'test', validDays: 1 });
    const leaves = new Map<string, string>();
    const mesh = await startMesh(
      t,
      {
        sign: async (identity, csrPem) => {
          const { publicKeySpki } = parseCsr(csrPem);
          const { certPem } = await authority.issue({
            uris: [identity],
            publicKey: publicKeySpki,
            validForMs: 3_600_000,
          });
          leaves.set(identity, certPem);
          return [certPem, authority.certPem];
        },
      },
      { crlPath },
    );
    const live = mesh.dial();
    live.write('hello');
    const [greeting] = (await once(live, 'data')) as [Buffer];
    assert.equal(greeting.toString(), 'hello');
    const cart = leaves.get('spiffe://cluster.local/ns/shop/sa/cart')!;
    writeFileSync(crlPath, crlPem(await newCrl(authority, { revoked: [cart] })));
    await until('the live connection is cut', () => live.destroyed);
    const cut = 'CERTIFICATE_REVOKED';
    await until('the far log says so', () => mesh.far.access('direction="inbound"', cut).length === 1);
    assert.match(mesh.far.access(cut)[0]!, /connection complete.*serial [0-9a-f]+, URI:spiffe:.*sa\/cart/);

    const refused = mesh.dial();
    refused.write('again');
    await until('it is refused', () => refused.destroyed);
    await until('the far log says so', () => mesh.far.access('connection failed', cut).length === 1);
    await until('so does the near log', () => mesh.near.access('TLS_HANDSHAKE_FAILED').length === 1);
  });
});
