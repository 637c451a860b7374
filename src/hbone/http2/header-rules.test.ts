import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { areTrailersWellFormed, judgeRequest, statusOf, unsendable } from './header-rules.ts';

const CONNECT = [':method', 'CONNECT', ':authority', 'a:1'];

describe('header lists (RFC 9113 §8)', () => {
  it('CONNECT is method and authority', () => {
    assert.deepEqual(judgeRequest([...CONNECT, 'baggage', 'k=v']), { kind: 'connect', authority: 'a:1' });
    assert.deepEqual(judgeRequest([':method', 'GET', ':scheme', 'https', ':path', '/']), { kind: 'other' });
  });

  const MALFORMED: Readonly<Record<string, readonly string[]>> = {
    'no method': [':authority', 'a:1'],
    'no authority': [':method', 'CONNECT'],
    'an empty authority': [':method', 'CONNECT', ':authority', ''],
    'an authority with a path': [':method', 'CONNECT', ':authority', 'a/b'],
    'a scheme': [...CONNECT, ':scheme', 'https'],
    'a path': [...CONNECT, ':path', '/'],
    'a protocol': [...CONNECT, ':protocol', 'websocket'],
    'a status': [...CONNECT, ':status', '200'],
    'a method twice': [...CONNECT, ':method', 'CONNECT'],
    'a pseudo-header behind an ordinary one': [':method', 'CONNECT', 'x', 'y', ':authority', 'a:1'],
    'an upper-case name': [...CONNECT, 'X', 'y'],
    'an empty name': [...CONNECT, '', 'y'],
    'a name with a blank': [...CONNECT, 'a b', 'y'],
    'a value with a line break': [...CONNECT, 'x', 'a\r\nb'],
    'a value with NUL': [...CONNECT, 'x', 'a\0b'],
    'a value with an outer blank': [...CONNECT, 'x', ' a'],
    'a connection header': [...CONNECT, 'connection', 'close'],
    'te other than trailers': [...CONNECT, 'te', 'gzip'],
    'GET without a path': [':method', 'GET', ':scheme', 'https'],
  };
  for (const [what, list] of Object.entries(MALFORMED)) {
    it(`a request with ${what} is malformed`, () => {
      assert.deepEqual(judgeRequest(list), { kind: 'malformed' });
    });
  }

  it('an answer has one status of three digits', () => {
    assert.equal(statusOf([':status', '200', 'baggage', '']), 200);
    assert.equal(statusOf([':status', '103']), 103);
    for (const list of [
      [],
      [':status', '20'],
      [':status', 'abc'],
      [':status', '200', ':status', '200'],
      CONNECT,
    ])
      assert.equal(statusOf(list), undefined);
  });

  it('trailers have no pseudo-headers', () => {
    assert.equal(areTrailersWellFormed(['x', 'y']), true);
    assert.equal(areTrailersWellFormed([':status', '200']), false);
  });

  it('nothing is sent that a peer must refuse', () => {
    assert.equal(unsendable('a:1', { baggage: '' }), undefined);
    assert.match(unsendable('', {}) ?? '', /authority is empty/);
    assert.match(unsendable('a:1', { baggage: 'a\nb' }) ?? '', /baggage/);
    assert.match(unsendable('a:1', { 'Bad Name': '' }) ?? '', /no header name/);
  });
});
