import 'reflect-metadata';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { Extension } from '@peculiar/x509';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { crlPem, newCrl } from '../../test/lib/crls.ts';
import { readCertificateFacts } from './certificate-facts.ts';
import { parseRevocationLists } from './crl.ts';
import { writeDer } from './der.ts';
import { type Authority, createAuthority } from './issue.ts';

const SERIALS = ['01', '00ff01', '7fffffffffffffffffffffffffffffff'];
/** As they are compared: without the zero that keeps them positive. */
const READ = ['01', 'ff01', '7fffffffffffffffffffffffffffffff'];

let root: Authority;
let other: Authority;
const spkiOf = (authority: Authority): Buffer =>
  createPublicKey(authority.certPem).export({ format: 'der', type: 'spki' });
const unusable = (why: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'CERTIFICATE_INVALID' && why.test(error.message);

describe('revocation lists', () => {
  before(async () => {
    [root, other] = await Promise.all([
      createAuthority({ organization: 'one', validDays: 1 }),
      createAuthority({ organization: 'two', validDays: 1 }),
    ]);
  });

  it('are read from DER, and know who signed them', async () => {
    const [list, ...more] = parseRevocationLists(await newCrl(root, { revoked: SERIALS }));
    assert.ok(list);
    assert.equal(more.length, 0);
    assert.deepEqual([...list.serials], READ);
    // Name { RDN { organizationName, UTF8String "one" } }
    assert.equal(list.issuer, '300e310c300a060355040a0c036f6e65');
    assert.equal(list.isSignedBy(spkiOf(root)), true);
    assert.equal(list.isSignedBy(spkiOf(other)), false);
    assert.equal(list.isSignedBy(Buffer.from('no key')), false);
  });

  it('are read from PEM, several and between other items', async () => {
    const one = await newCrl(root, { revoked: ['0a'] });
    const two = await newCrl(other, { revoked: [] });
    const file = `# of today\n${crlPem(one)}${root.certPem}${crlPem(two).replaceAll('\n', '\r\n')}`;
    const lists = parseRevocationLists(Buffer.from(file));
    assert.deepEqual(
      lists.map(({ serials }) => [...serials]),
      [['0a'], []],
    );
  });

  it('carry the key id of their issuer', async () => {
    const [list] = parseRevocationLists(await newCrl(root, {}));
    const { raw } = new X509Certificate(root.certPem);
    assert.equal(list!.authorityKeyId, readCertificateFacts(raw).subjectKeyId);
    assert.match(list!.authorityKeyId!, /^[0-9a-f]{40}$/);
  });

  for (const [name, content] of Object.entries({
    nothing: '',
    'white space': ' \n',
    'certificates only': undefined,
  })) {
    it(`of which there are none mean that nothing is revoked (${name})`, () => {
      assert.deepEqual(parseRevocationLists(Buffer.from(content ?? root.certPem)), []);
    });
  }

  it('that are late are read all the same', async () => {
    const past = new Date(Date.UTC(2001, 0, 1));
    const [list] = parseRevocationLists(
      await newCrl(root, { revoked: ['07'], thisUpdate: past, nextUpdate: past }),
    );
    assert.deepEqual([...list!.serials], ['07']);
  });

  it('that are only a part of a whole are refused: passing over them would let a revoked peer in', async () => {
    const delta = new Extension('2.5.29.27', true, writeDer(0x02, Uint8Array.of(1)));
    const der = await newCrl(root, { extensions: [delta] });
    assert.throws(() => parseRevocationLists(der), unusable(/list 1: .*partial .*551d1b/));
  });

  const garbage: Readonly<Record<string, [string, RegExp]>> = {
    text: ['hello', /neither PEM nor DER/],
    'a block without its end': ['-----BEGIN X509 CRL-----\nMAAA\n', /block 1 has no end/],
    'a block that is no base64': [
      '-----BEGIN X509 CRL-----\n!!\n-----END X509 CRL-----\n',
      /block 1 is not base64/,
    ],
    'a block that is no list': ['-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n', /list 1/],
  };
  for (const [name, [content, why]] of Object.entries(garbage)) {
    it(`${name} is refused with the reason`, () => {
      assert.throws(() => parseRevocationLists(Buffer.from(content)), unusable(why));
    });
  }

  it('one bad list among good ones makes the file unusable', async () => {
    const good = crlPem(await newCrl(root));
    const bad = crlPem((await newCrl(other)).subarray(0, -1));
    assert.throws(() => parseRevocationLists(Buffer.from(good + bad)), unusable(/list 2/));
  });

  it('of any bytes are read or refused, never worse', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), pemOf()), (bytes) => {
        readsOrRefuses(bytes);
      }),
    );
  });

  it('with one byte changed are read or refused, and no longer signed', async () => {
    const der = await newCrl(root, { revoked: SERIALS });
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = Buffer.from(der);
        changed[at]! ^= change;
        for (const list of readsOrRefuses(changed)) assert.equal(list.isSignedBy(spkiOf(root)), false);
      }),
    );
  });

  it('of openssl are read', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    file('index.txt', 'R\t300101000000Z\t250101000000Z,keyCompromise\t1234\tunknown\t/O=leaf\n');
    file('number', '01\n');
    const config = file(
      'ca.cnf',
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${folder}/index.txt\ncrlnumber=${folder}/number\ndefault_md=sha384\ndefault_crl_days=1\n`,
    );
    const run = spawnSync('openssl', [
      ...['ca', '-gencrl', '-config', config, '-out', join(folder, 'out.pem')],
      ...['-cert', file('root.pem', root.certPem), '-keyfile', file('root.key', root.keyPem)],
    ]);
    if (run.error !== undefined) return t.skip('openssl is not installed');
    assert.equal(run.status, 0, run.stderr.toString());
    const [list] = parseRevocationLists(readFileSync(join(folder, 'out.pem')));
    assert.deepEqual([...list!.serials], ['1234']);
    assert.equal(list!.isSignedBy(spkiOf(root)), true);
  });
});

function readsOrRefuses(bytes: Uint8Array): ReturnType<typeof parseRevocationLists> {
  try {
    return parseRevocationLists(bytes);
  } catch (error) {
    assert.ok(error instanceof MeshError && error.code === 'CERTIFICATE_INVALID', String(error));
    return [];
  }
}

function pemOf(): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: 1, maxLength: 100 }).map((der) => Buffer.from(crlPem(der)));
}
