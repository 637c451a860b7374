import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { SpiffeId } from '#model/identity.ts';
import { createAuthority } from './issue.ts';
import { checkExpected, checkTrustDomain, peerIdentity, spiffeIds, uriNames } from './peer.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
const CART = 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId;
const FOREIGN = 'spiffe://other.example/ns/shop/sa/web' as SpiffeId;

describe('URI names', () => {
  it('are read out of the list, in order', () => {
    assert.deepEqual(uriNames(`DNS:web.shop, URI:${WEB}, IP Address:10.0.0.1, URI:${CART}`), [WEB, CART]);
    assert.deepEqual(uriNames(''), []);
    assert.deepEqual(uriNames('DNS:a'), []);
  });

  it('that are quoted are one name, whatever they contain', () => {
    assert.deepEqual(uriNames(`URI:"spiffe://a\\u002c URI:${WEB}", DNS:b`), [`spiffe://a, URI:${WEB}`]);
    assert.deepEqual(uriNames(`DirName:"CN=x\\u002c URI:${WEB}", URI:${CART}`), [CART]);
    assert.deepEqual(uriNames('URI:"a\\"b"'), ['a"b']);
  });

  it('are none at all when the list is malformed', () => {
    for (const text of [
      `URI:${WEB}, junk`,
      `URI:"${WEB}`,
      `URI:"${WEB}"x, URI:${CART}`,
      `URI:${WEB}, `,
      'URI:"\\q"',
    ]) {
      const names = uriNames(text);
      assert.deepEqual(names, text.endsWith(', ') ? [WEB] : [], text);
    }
  });

  it('of a real certificate come back as they went in, however hostile', async () => {
    const authority = await createAuthority({ validDays: 1 });
    // IA5: what a URI name can hold at all.
    const nasty = fc.stringMatching(/^[ -~]{1,30}$/);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(nasty, fc.constant(`x, URI:${WEB}`)), { minLength: 1, maxLength: 4 }),
        async (uris) => {
          const { certPem } = await authority.issue({ uris, validForMs: 60_000 });
          assert.deepEqual(uriNames(new X509Certificate(certPem).subjectAltName ?? ''), uris);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('never fail on any text', () => {
    fc.assert(fc.property(fc.string(), (text) => assert.ok(Array.isArray(uriNames(text)))));
    fc.assert(fc.property(fc.string(), (text) => assert.ok(Array.isArray(uriNames(`URI:"${text}`)))));
  });
});

describe('the peer of a connection', () => {
  it('is its first name that is a workload identity', () => {
    assert.equal(peerIdentity(`URI:https://x, URI:spiffe://a/b, URI:${CART}, URI:${WEB}`), CART);
    assert.equal(peerIdentity('DNS:a'), undefined);
    assert.equal(peerIdentity(undefined), undefined);
    assert.deepEqual(spiffeIds(`URI:${WEB}/x, URI:${WEB}`), [WEB]);
  });

  it('is accepted by a client when one of its names is expected', () => {
    assert.deepEqual(checkExpected(`URI:${CART}, URI:${WEB}`, [WEB]), { ok: true, identity: WEB });
    assert.deepEqual(checkExpected(`URI:${CART}`, [WEB]), {
      ok: false,
      reason: `the peer is ${CART}, expected ${WEB}`,
    });
  });

  it('is never accepted when nothing is expected, or without a name', () => {
    assert.equal(checkExpected(`URI:${WEB}`, []).ok, false);
    const nameless = checkExpected(undefined, [WEB, CART]);
    assert.deepEqual(nameless, {
      ok: false,
      reason: `the peer is without a SPIFFE identity, expected ${WEB} or ${CART}`,
    });
  });

  it('is accepted by a server when one of its names is of the same trust domain', () => {
    assert.deepEqual(checkTrustDomain(`URI:${CART}`, WEB), { ok: true, identity: CART });
    assert.equal(checkTrustDomain(`URI:${FOREIGN}, URI:${CART}`, WEB).ok, true);
    assert.equal(checkTrustDomain(`URI:${FOREIGN}`, WEB).ok, false);
    assert.equal(checkTrustDomain('DNS:cluster.local', WEB).ok, false);
    assert.equal(checkTrustDomain('URI:spiffe://cluster.local/other/form', WEB).ok, false);
  });
});
