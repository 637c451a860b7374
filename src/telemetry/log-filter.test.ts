import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLogFilter, type LogFilter, parseLogFilter, thresholdOf } from './log-filter.ts';

const DEFAULT: LogFilter = { level: 'info', scopes: new Map([['access', 'debug']]) };

for (const [text, expected] of [
  ['warn', 'access=debug,warn'],
  ['access=trace,error', 'access=debug,error'],
  ['ztunnel::xds=debug', 'access=debug,xds=debug,info'],
  ['proxy::inbound=error, off', 'proxy::inbound=error,access=debug,off'],
  ['DEBUG', 'access=debug,debug'],
] as const) {
  test(`${text} over the defaults is ${expected}`, () => {
    const filter = parseLogFilter(text, DEFAULT);
    assert.equal(filter && formatLogFilter(filter), expected);
  });
}

for (const text of [
  'loud',
  '',
  'access',
  'access=loud',
  'a=b=info',
  '=info',
  'ztunnel::=info',
  'in fo=debug',
  'info,,debug',
])
  test(`${JSON.stringify(text)} is no filter`, () => assert.equal(parseLogFilter(text, DEFAULT), undefined));

test('a directive covers the scopes below it, the longest wins, others are not touched', () => {
  const filter = parseLogFilter('proxy=warn,proxy::inbound=debug', DEFAULT)!;
  assert.equal(thresholdOf('proxy', filter), 'warn');
  assert.equal(thresholdOf('proxy::outbound', filter), 'warn');
  assert.equal(thresholdOf('proxy::inbound', filter), 'debug');
  assert.equal(thresholdOf('proxyish', filter), 'info');
});
