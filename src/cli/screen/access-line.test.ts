import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAccessLine } from './access-line.ts';

test("reads the specification's example line", () => {
  const line =
    '2026-09-01T08:15:30.004512Z\tinfo\taccess\tconnection complete\tsrc.addr=10.20.1.7:41822 src.workload="cart-5f7c-x2x" dst.addr=10.20.3.9:15008 direction="outbound" bytes_sent=112 duration="7ms"';
  const record = parseAccessLine(line);
  assert.equal(record?.time, '2026-09-01T08:15:30.004512Z');
  assert.equal(record?.level, 'info');
  assert.equal(record?.message, 'connection complete');
  assert.deepEqual(
    [...(record?.fields ?? [])],
    [
      ['src.addr', '10.20.1.7:41822'],
      ['src.workload', 'cart-5f7c-x2x'],
      ['dst.addr', '10.20.3.9:15008'],
      ['direction', 'outbound'],
      ['bytes_sent', '112'],
      ['duration', '7ms'],
    ],
  );
});

test('keeps spaces and escaped quotes of quoted values together', () => {
  const record = parseAccessLine(
    't\terror\taccess\tconnection complete\terror="denied by \\"p\\" rule 1" src.addr=1.2.3.4:5',
  );
  assert.equal(record?.fields.get('error'), 'denied by "p" rule 1');
  assert.equal(record?.fields.get('src.addr'), '1.2.3.4:5');
});

test('ignores lines of other scopes and text that is no log line', () => {
  assert.equal(parseAccessLine('t\tinfo\txds\tconnected'), undefined);
  assert.equal(parseAccessLine('Error: something'), undefined);
  assert.equal(parseAccessLine(''), undefined);
});

test('reads the JSON form, and nothing else that begins with a brace', () => {
  const record = parseAccessLine(
    '{"level":"info","time":"2026-09-01T08:15:30Z","scope":"access","message":"connection complete","src.addr":"10.20.1.7:41822","bytes_sent":112}',
  );
  assert.equal(record?.time, '2026-09-01T08:15:30Z');
  assert.equal(record?.fields.get('bytes_sent'), '112');
  assert.equal(parseAccessLine('{"level":"info","time":"t","scope":"xds","message":"m"}'), undefined);
  assert.equal(parseAccessLine('{not json'), undefined);
});
