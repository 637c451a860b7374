// Inside a network namespace of its own: a real ztunnel with one file of revocation lists after the other, and a client
// that may be on them. Prints a line of JSON for each case. Arguments: the peer's program, a folder to write to.

import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Extension } from '@peculiar/x509';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { ip } from '#net/ip.ts';
import { parseRevocationLists } from '#tls/crl.ts';
import { writeDer } from '#tls/der.ts';
import { Revocations } from '#tls/revocation.ts';
import { crlPem, newCrl, newIntermediate } from '../lib/crls.ts';
import { until } from '../lib/until.ts';
import { CLIENT_ID, newAuthority, newSecret, record } from '../loopback/hbone-peers.ts';
import {
  OWN_ID,
  ownState,
  prepareNetwork,
  refusalOf,
  serveAuthority,
  startApplications,
  startPeer,
  tunnel,
} from './peer-rig.ts';

const [peer, dir] = process.argv.slice(2) as [string, string];
const scope = new Scope('interop');
const TARGET = ip('10.60.0.1');
const SOURCE = ip('10.61.0.1');
const PORT = 8080;

prepareNetwork([TARGET, SOURCE], [PORT]);
await startApplications(scope, [PORT], (socket) => socket.write('hello'));
const root = await newAuthority();
const sameName = await newAuthority();
const between = await newIntermediate(root, 'between');
const ca = await serveAuthority(scope, root, dir);
const client = await newSecret(root, CLIENT_ID);
const indirect = await newSecret(between, CLIENT_ID, root.certPem, [between.certPem]);
const server = await newSecret(root, OWN_ID);
const revoked = [...client.chainPem];
const past = { thisUpdate: new Date(0), nextUpdate: new Date(1000) };
const delta = new Extension('2.5.29.27', true, writeDer(0x02, Uint8Array.of(1)));

const cases: Readonly<Record<string, Buffer>> = {
  'an empty file': Buffer.alloc(0),
  'no list, but a certificate': Buffer.from(root.certPem),
  'a list without the client': await newCrl(root, { revoked: ['0a'] }),
  'a list with the client': await newCrl(root, { revoked }),
  'a list with the client, late': await newCrl(root, { revoked, ...past }),
  'a list without the client, late': await newCrl(root, past),
  'a list in PEM, behind another': Buffer.from(
    crlPem(await newCrl(between)) + crlPem(await newCrl(root, { revoked })),
  ),
  'a list of another authority': await newCrl(between, { revoked }),
  'a list with a wrong signature': await newCrl(root, { signedBy: sameName }),
  'a list of another root with the same name, by its key id': await newCrl(sameName, {}),
  'a list of another root with the same name, without a key id': await newCrl(sameName, { withKeyId: false }),
  'a partial list': await newCrl(root, { revoked, extensions: [delta] }),
  'a list of version 1': await newCrl(root, { revoked, isVersion1: true }),
  nonsense: Buffer.from('nonsense'),
};
const intermediateCases: Readonly<Record<string, Buffer>> = {
  'a list with the intermediate authority': await newCrl(root, { revoked: [between.certPem] }),
};

const state = ownState([TARGET]);

async function isAdmitted(secret: typeof client): Promise<boolean> {
  const refusal = await refusalOf(scope, (attempt) =>
    tunnel(attempt, secret, SOURCE, { ip: TARGET, port: PORT }),
  );
  if (refusal !== undefined && refusal.code !== 'TLS_HANDSHAKE_FAILED') throw refusal;
  return refusal === undefined;
}

/** As the two ends of a session do it: whatever the peer sent, and the roots of our own certificate. */
function weAdmit(secret: typeof client, file: Buffer): boolean {
  const revocations = new Revocations();
  try {
    revocations.replace(parseRevocationLists(file));
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
  }
  const [leaf, issuer] = secret.chainPem.map((pem) => new X509Certificate(pem));
  if (issuer !== undefined) Object.defineProperty(leaf, 'issuerCertificate', { value: issuer });
  return !(revocations.admit(leaf, server) instanceof MeshError);
}

const crlPath = join(dir, 'crl.pem');
const say = (line: object): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);

for (const [secret, files] of [
  [client, cases],
  [indirect, intermediateCases],
] as const) {
  for (const [name, file] of Object.entries(files)) {
    writeFileSync(crlPath, file);
    const running = await startPeer(peer, ca, dir, state, { CRL_PATH: crlPath });
    try {
      say({ name, peerAdmits: await isAdmitted(secret), weAdmit: weAdmit(secret, file) });
    } finally {
      await running.kill();
    }
  }
}

// A live session, and a list that comes later.
writeFileSync(crlPath, '');
const running = await startPeer(peer, ca, dir, state, { CRL_PATH: crlPath });
try {
  const { stream } = await tunnel(scope, client, SOURCE, { ip: TARGET, port: PORT });
  const sink = record(stream);
  await until('the greeting comes', () => sink.text === 'hello');
  writeFileSync(crlPath, await newCrl(root, { revoked }));
  let isCut = true;
  await until('it is cut', () => sink.outcome !== undefined, 20_000).catch(() => {
    isCut = false;
  });
  say({ name: 'a live session', peerAdmits: !isCut, weAdmit: false });
} finally {
  await running.kill();
}
process.exit();
