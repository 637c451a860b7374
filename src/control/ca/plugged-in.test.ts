// The files of a plugged-in authority in their two forms, and sets that are not whole (control-plane.md §5.4).

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { newSigningCertificate, type SigningCertificate } from '../../../test/lib/authorities.ts';
import { readPluggedIn } from './plugged-in.ts';

let root: SigningCertificate;
let signing: SigningCertificate;
before(async () => {
  root = await newSigningCertificate({ name: 'root' });
  signing = await newSigningCertificate({ name: 'signing', issuer: root });
});

function folder(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-cacerts-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

const whole = () => ({
  'ca-cert.pem': signing.certPem,
  'ca-key.pem': signing.keyPem,
  'root-cert.pem': root.certPem,
  'cert-chain.pem': signing.certPem + root.certPem,
});

test('nothing is plugged in: no folder, an empty one, one with other files', async (t) => {
  assert.equal(await readPluggedIn('/nonexistent/cacerts', Date.now()), undefined);
  assert.equal(await readPluggedIn(folder(t, {}), Date.now()), undefined);
  assert.equal(await readPluggedIn(folder(t, { 'ca-crl.pem': '', README: '' }), Date.now()), undefined);
});

test('the four files of cacerts', async (t) => {
  const material = await readPluggedIn(folder(t, whole()), Date.now());
  assert.deepEqual(material?.chain.map(String), [signing.certPem]);
  assert.equal(material?.rootsPem, root.certPem);
});

test('a Secret of type kubernetes.io/tls, as cert-manager makes it: the signing certificate first in tls.crt', async (t) => {
  const lower = await newSigningCertificate({ name: 'lower', issuer: signing });
  const files = {
    'tls.crt': lower.certPem + signing.certPem,
    'tls.key': lower.keyPem,
    'ca.crt': root.certPem,
  };
  const material = await readPluggedIn(folder(t, files), Date.now());
  assert.deepEqual(material?.chain.map(String), [lower.certPem, signing.certPem]);
  assert.equal(material?.rootsPem, root.certPem);
});

test('a part of a set is an error that names folder, what is missing and the way out', async (t) => {
  for (const name of Object.keys(whole())) {
    const { [name as keyof ReturnType<typeof whole>]: _, ...rest } = whole();
    const dir = folder(t, rest);
    await assert.rejects(readPluggedIn(dir, Date.now()), {
      code: 'CERTIFICATE_INVALID',
      message: `${dir} holds a part of a plugged-in authority only: ${name} is missing; complete the Secret cacerts, or remove it to use a self-signed root`,
    });
  }
  await assert.rejects(readPluggedIn(folder(t, { 'tls.crt': signing.certPem }), Date.now()), {
    message: /tls\.key, ca\.crt are missing/,
  });
});

test('files that do not fit are an error that names folder and file', async (t) => {
  const dir = folder(t, { ...whole(), 'ca-key.pem': root.keyPem });
  await assert.rejects(readPluggedIn(dir, Date.now()), {
    code: 'CERTIFICATE_INVALID',
    message: `the authority plugged in at ${dir} cannot be used: ca-key.pem is not the key of the certificate in ca-cert.pem; take both from one place`,
  });
});
