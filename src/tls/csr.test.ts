import 'reflect-metadata';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { describe, it } from 'node:test';
import { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } from '@peculiar/x509';
import fc from 'fast-check';
import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import { requestFor } from './csr.ts';
import { readDer, writeDer } from './der.ts';
import { parseCsr } from './issue.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;

describe('the certificate request of a workload', () => {
  it('asks for one critical URI name, with an empty subject and nothing else', async () => {
    const { csrPem, privateKey } = await requestFor(WEB);
    const request = new Pkcs10CertificateRequest(csrPem);
    assert.equal(request.subject, '');
    assert.equal(request.attributes.length, 1);
    assert.equal(request.extensions.length, 1);
    const [names] = request.extensions;
    assert.ok(names instanceof SubjectAlternativeNameExtension);
    assert.equal(names.critical, true);
    assert.deepEqual(names.names.toJSON(), [{ type: 'url', value: WEB }]);
    assert.equal(await request.verify(), true);
    assert.deepEqual(
      Buffer.from(request.publicKey.rawData),
      createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    );
  });

  it('carries a new key each time', async () => {
    const [one, two] = await Promise.all([requestFor(WEB), requestFor(WEB)]);
    assert.ok(!one.privateKey.equals(two.privateKey));
  });

  it('is read back by the authority, whose check of the signature notices a change', async () => {
    const { csrPem } = await requestFor(WEB);
    const parsed = parseCsr(csrPem);
    assert.deepEqual(parsed.uris, [WEB]);
    assert.equal(parsed.commonName, undefined);
    assert.equal(parsed.signatureValid, true);
    const der = Buffer.from(csrPem.replace(/-----[^-]+-----/g, ''), 'base64');
    const at = der.indexOf('shop');
    der[at] = 'c'.charCodeAt(0);
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
    assert.equal(parseCsr(forged).signatureValid, false);
  });

  it('satisfies openssl', async (t) => {
    const { csrPem } = await requestFor(WEB);
    const run = spawnSync('openssl', ['req', '-verify', '-noout', '-text'], {
      input: csrPem,
      encoding: 'utf8',
    });
    if (run.error !== undefined) return t.skip('openssl is not installed');
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stderr + run.stdout, /verify OK/);
    assert.match(
      run.stdout,
      /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/,
    );
    assert.match(run.stdout, /Subject:\s*$/m);
  });

  it('holds for identities of any length', async () => {
    const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,200}[a-z0-9])?$/);
    await fc.assert(
      fc.asyncProperty(name, name, name, async (trustDomain, namespace, serviceAccount) => {
        const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
        const parsed = parseCsr((await requestFor(identity)).csrPem);
        assert.deepEqual(parsed.uris, [identity]);
        assert.ok(parsed.signatureValid);
      }),
      { numRuns: 25 },
    );
  });
});

describe('DER', () => {
  it('writes lengths in the shortest form', () => {
    assert.deepEqual([...writeDer(0x04, new Uint8Array(0x7f)).subarray(0, 2)], [0x04, 0x7f]);
    assert.deepEqual([...writeDer(0x04, new Uint8Array(0x80)).subarray(0, 3)], [0x04, 0x81, 0x80]);
    assert.deepEqual([...writeDer(0x04, new Uint8Array(0x100)).subarray(0, 4)], [0x04, 0x82, 0x01, 0x00]);
  });

  it('reads what it wrote, wherever the data end', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0x1e }),
        fc.uint8Array({ maxLength: 400 }),
        fc.uint8Array(),
        (tag, content, rest) => {
          const encoded = writeDer(tag, content);
          const element = readDer(Buffer.concat([encoded, rest]));
          assert.equal(element.tag, tag);
          assert.deepEqual([...element.content], [...content]);
          assert.deepEqual([...element.encoded], [...encoded]);
          assert.deepEqual([...element.rest], [...rest]);
          for (const cut of [0, 1, encoded.length - 1]) {
            if (cut < encoded.length)
              assert.throws(() => readDer(encoded.subarray(0, cut)), { code: 'CERTIFICATE_INVALID' });
          }
        },
      ),
    );
  });

  it('refuses anything else with its own error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          const element = readDer(bytes);
          assert.equal(element.encoded.length + element.rest.length, bytes.length);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'CERTIFICATE_INVALID');
        }
      }),
    );
    assert.throws(() => readDer(Uint8Array.of(0x30, 0x80, 0, 0)), { code: 'CERTIFICATE_INVALID' });
    assert.throws(() => readDer(Uint8Array.of(0x30, 0x81, 0x01, 0)), { code: 'CERTIFICATE_INVALID' });
    assert.throws(() => readDer(Uint8Array.of(0x1f, 0x01, 0)), { code: 'CERTIFICATE_INVALID' });
  });
});
