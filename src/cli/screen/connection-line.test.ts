import assert from 'node:assert/strict';
import { test } from 'node:test';
import { styleFor } from '../style.ts';
import { type AccessRecord, parseAccessLine } from './access-line.ts';
import { isWorthShowing, renderConnection } from './connection-line.ts';

const plain = styleFor(false, {});

function record(text: string): AccessRecord {
  const parsed = parseAccessLine(`2026-09-01T08:15:30.004512Z\tinfo\taccess\tconnection complete\t${text}`);
  assert.ok(parsed);
  return parsed;
}

const tunnelled =
  'src.addr=10.244.1.2:41822 src.workload="web-5f7c9d8b6-x2x4z" src.identity="spiffe://cluster.local/ns/shop/sa/web" dst.addr=10.244.2.3:15008 dst.hbone_addr=10.244.2.3:8080 dst.workload="catalog-7d9f6c5b4-abcde" dst.identity="spiffe://cluster.local/ns/shop/sa/catalog"';

test('a tunnelled connection shows both names, both identities, the protocol and the verdict', () => {
  const line = renderConnection(
    record(`${tunnelled} direction="inbound" bytes_sent=2048 bytes_recv=112 duration="7ms"`),
    plain,
  );
  assert.equal(
    line,
    '08:15:30 allowed web → catalog:8080 mTLS  spiffe://cluster.local/ns/shop/sa/web → spiffe://cluster.local/ns/shop/sa/catalog  112 B in, 2.0 KiB out, 7ms',
  );
});

test('a refusal shows its reason in place of the byte counts', () => {
  const line = renderConnection(
    record(`${tunnelled} direction="inbound" error="explicitly denied by: shop/no-orders"`),
    plain,
  );
  assert.match(line, /REFUSED web → catalog:8080 mTLS .* explicitly denied by: shop\/no-orders$/);
});

test('the near end of a tunnelled connection is not shown twice', () => {
  assert.equal(isWorthShowing(record(`${tunnelled} direction="inbound"`)), true);
  assert.equal(isWorthShowing(record(`${tunnelled} direction="outbound"`)), false);
  assert.equal(
    isWorthShowing(record(`${tunnelled} direction="outbound" error="http status: 401 Unauthorized"`)),
    false,
  );
  assert.equal(isWorthShowing(record(`${tunnelled} direction="outbound" error="no certificate"`)), true);
  assert.equal(
    isWorthShowing(record('src.addr=10.244.1.2:1 dst.addr=192.0.2.1:80 direction="outbound"')),
    true,
  );
});
