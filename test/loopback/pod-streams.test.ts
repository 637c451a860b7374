// exec, attach and port-forward at the API server, with raw clients of each protocol and a kubelet's side made of streams.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { encodeFrame } from '#k8s/streams/spdy-frames.ts';
import { HeaderWriter } from '#k8s/streams/spdy-headers.ts';
import { TestSpdyClient } from '#local/streams/test-spdy-client.ts';
import { type ApiRig, withApiServer } from './apiserver-rig.ts';
import {
  ChannelClient,
  execPath,
  type FakeKubelet,
  fakeKubelet,
  makePod,
  PODS,
  spdy,
  tcpServer,
  tunnel,
  upgrade,
} from './pod-streams-rig.ts';

const V5 = 'v5.channel.k8s.io';
const V4 = 'v4.channel.k8s.io';
const OUTPUTS = 'stdout=true&stderr=true';
const SPDY = { Upgrade: 'SPDY/3.1', 'X-Stream-Protocol-Version': V4, 'Content-Length': '0' };

async function withKubelet(run: (rig: ApiRig, kubelet: FakeKubelet) => Promise<void>): Promise<void> {
  const kubelet = fakeKubelet();
  await withApiServer(
    async (rig) => {
      await makePod(rig);
      await run(rig, kubelet);
    },
    { podStreams: kubelet },
  );
}

test('WebSocket: outputs apart, the exit code on the error channel, then a normal close', async () => {
  await withKubelet(async (rig, kubelet) => {
    for (const protocol of [V5, V4]) {
      const client = new ChannelClient(rig, execPath(['say', 'a b'], OUTPUTS), [protocol]);
      await client.closed;
      assert.equal(client.socket.protocol, protocol);
      assert.deepEqual(client.messages[0], Buffer.of(1), 'the empty message that says: connected');
      assert.equal(client.on(1), 'say out');
      assert.equal(client.on(2), 'say err');
      const status = JSON.parse(client.on(3));
      assert.equal(status.reason, 'NonZeroExitCode');
      assert.deepEqual(status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
      assert.equal(client.closeCode, 1000);
    }
    assert.deepEqual(kubelet.asked[0], ['exec', 'p', 'main', { command: ['say', 'a b'], tty: false }]);
  });
});

test('WebSocket: the newest protocol both know is taken', async () => {
  await withKubelet(async (rig) => {
    const client = new ChannelClient(rig, execPath(['say'], OUTPUTS), [V4, V5, 'channel.k8s.io']);
    await client.closed;
    assert.equal(client.socket.protocol, V5);
  });
});

test('WebSocket v5: closing the input ends it, and the output still comes', async () => {
  await withKubelet(async (rig) => {
    const client = await new ChannelClient(rig, execPath(['cat'], 'stdin=1&stdout=1'), [V5]).open();
    client.send(0, 'hello ');
    client.send(0, 'there');
    client.socket.send(Buffer.of(255, 0));
    await client.closed;
    assert.equal(client.on(1), 'hello there');
    assert.equal(JSON.parse(client.on(3)).status, 'Success');
  });
});

test('WebSocket: sizes reach the terminal, which has one output', async () => {
  await withKubelet(async (rig, kubelet) => {
    const path = execPath(['cat'], 'stdin=true&stdout=true&stderr=true&tty=true');
    const client = await new ChannelClient(rig, path, [V5]).open();
    client.send(4, '{"Width":101,"Height":33}');
    client.send(4, 'nonsense');
    client.send(4, '{"Width":80,"Height":24}');
    client.socket.send(Buffer.of(255, 0));
    await client.closed;
    assert.deepEqual(kubelet.sizes, [
      { columns: 101, rows: 33 },
      { columns: 80, rows: 24 },
    ]);
    assert.deepEqual(kubelet.asked, [['exec', 'p', 'main', { command: ['cat'], tty: true }]]);
  });
});

test('WebSocket: what breaks the protocol ends the connection, by its code', async () => {
  await withKubelet(async (rig) => {
    const path = execPath(['cat'], 'stdin=true&stdout=true');
    const text = await new ChannelClient(rig, path, [V5]).open();
    text.socket.send('as text');
    await text.closed;
    assert.equal(text.closeCode, 1003);
    const channel = await new ChannelClient(rig, path, [V4]).open();
    channel.send(9, 'x');
    await channel.closed;
    assert.equal(channel.closeCode, 1002);
    const close = await new ChannelClient(rig, path, [V4]).open();
    close.socket.send(Buffer.of(255, 0)); // v5 only
    await close.closed;
    assert.equal(close.closeCode, 1002);
  });
});

test('a client that goes away ends its command, over either protocol', async () => {
  for (const command of ['hang', 'flood'])
    await withKubelet(async (rig, kubelet) => {
      const client = await new ChannelClient(rig, execPath([command], 'stdout=true'), [V5]).open();
      client.socket.terminate();
      await kubelet.clientGone;
    });
  await withKubelet(async (rig, kubelet) => {
    const client = await spdy(rig, execPath(['hang'], 'stdout=true'), V4);
    client.open({ streamtype: 'error' });
    client.open({ streamtype: 'stdout' });
    await client.until('replies', () => client.of('syn-reply').length === 2);
    client.end();
    await kubelet.clientGone;
  });
});

test('a reader that does not read costs no memory', async () => {
  await withKubelet(async (rig) => {
    const client = await new ChannelClient(rig, execPath(['flood'], 'stdout=true'), [V5]).open();
    client.socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const held = process.memoryUsage().external;
    await new Promise((resolve) => setTimeout(resolve, 500));
    // A server that did not wait would have taken gigabytes by now.
    assert.ok(process.memoryUsage().external - held < 64 * 1024 * 1024);
    client.socket.terminate();
  });
});

test('SPDY: the streams of a command, in any order, with its exit code', async () => {
  await withKubelet(async (rig) => {
    const client = await spdy(rig, execPath(['say'], OUTPUTS), `${V4}, channel.k8s.io`);
    const stderr = client.open({ streamtype: 'stderr' });
    const error = client.open({ streamtype: 'error' });
    const stdout = client.open({ streamtype: 'stdout' });
    await client.until('the end', () => [stderr, error, stdout].every((id) => client.received(id).fin));
    assert.equal(client.received(stdout).bytes.toString(), 'say out');
    assert.equal(client.received(stderr).bytes.toString(), 'say err');
    assert.deepEqual(JSON.parse(client.received(error).bytes.toString()).details.causes, [
      { reason: 'ExitCode', message: '7' },
    ]);
    await client.until('goodbye', () => client.of('goaway').length === 1);
    assert.equal(client.of('goaway')[0]?.status, 0);
  });
});

test('SPDY: input to its end, sizes split anywhere', async () => {
  await withKubelet(async (rig, kubelet) => {
    const client = await spdy(rig, execPath(['cat'], 'stdin=true&stdout=true&tty=true'), V4);
    const error = client.open({ streamtype: 'error' });
    const stdin = client.open({ streamtype: 'stdin' });
    const stdout = client.open({ streamtype: 'stdout' });
    const resize = client.open({ streamtype: 'resize' });
    client.data(resize, '{"Width":101,"Hei');
    client.data(resize, 'ght":33}\n{"Width":80,"Height":24}\n');
    client.data(stdin, 'hello');
    client.data(stdin, '', true);
    await client.until('the end', () => client.received(error).fin);
    assert.equal(client.received(stdout).bytes.toString(), 'hello');
    assert.equal(JSON.parse(client.received(error).bytes.toString()).status, 'Success');
    assert.deepEqual(kubelet.sizes.at(-1), { columns: 80, rows: 24 });
  });
});

test('SPDY: a stream that was not announced is refused', async () => {
  await withKubelet(async (rig) => {
    const client = await spdy(rig, execPath(['say'], 'stdout=true'), V4);
    const stdin = client.open({ streamtype: 'stdin' });
    await client.until('a refusal', () => client.of('rst-stream').length === 1);
    assert.deepEqual(client.of('rst-stream'), [{ type: 'rst-stream', streamId: stdin, status: 3 }]);
    client.end();
  });
});

test('SPDY: frames that came with the request are not lost', async () => {
  await withKubelet(async (rig) => {
    const headers = new HeaderWriter();
    const ids = [1, 3];
    const bytes = Buffer.concat(
      ['error', 'stdout'].map((type, index) =>
        encodeFrame({
          type: 'syn-stream',
          streamId: ids[index]!,
          fin: false,
          unidirectional: false,
          headerBlock: headers.write(new Map([['streamtype', [type]]])),
        }),
      ),
    );
    const { code, socket } = await upgrade(rig, 'POST', execPath(['say'], 'stdout=true'), SPDY, bytes);
    assert.equal(code, 101);
    const client = new TestSpdyClient(socket);
    await client.until('the end', () => ids.every((id) => client.received(id).fin));
    assert.equal(client.received(ids[1]!).bytes.toString(), 'say out');
  });
});

test('a command that cannot start is told on the error channel', async () => {
  await withKubelet(async (rig) => {
    const client = new ChannelClient(rig, execPath(['fail'], OUTPUTS), [V5]);
    await client.closed;
    const status = JSON.parse(client.on(3));
    assert.equal(status.code, 500);
    assert.match(status.message, /there is no such program/);
  });
});

test('attach carries its options and its output', async () => {
  await withKubelet(async (rig, kubelet) => {
    const client = new ChannelClient(rig, `${PODS}/p/attach?container=main&stdin=true&stdout=true`, [V5]);
    await client.closed;
    assert.equal(client.on(1), 'attached out');
    assert.deepEqual(kubelet.asked, [['attach', 'p', 'main', { stdin: true, tty: false }]]);
  });
});

test('what is wrong with a request is its answer, before anything is upgraded', async () => {
  await withKubelet(async (rig) => {
    const refused = async (
      code: number,
      sentence: RegExp,
      path: string,
      headers: Readonly<Record<string, string>> = SPDY,
      method = 'POST',
    ): Promise<void> => {
      const answer = await upgrade(rig, method, path, headers);
      const body = await text(answer.socket);
      assert.equal(answer.code, code, `${path}: ${body}`);
      assert.match(JSON.parse(body).message, sentence);
    };
    await refused(404, /pods "none" not found/, `${PODS}/none/exec?command=a&stdout=true`);
    await refused(400, /a container name must be specified/, `${PODS}/p/exec?command=a&stdout=true`);
    await refused(400, /container x is not valid/, `${PODS}/p/exec?container=x&command=a&stdout=true`);
    await refused(400, /container idle is not running/, execPath(['a'], OUTPUTS, 'idle'));
    await refused(400, /must specify command/, `${PODS}/p/exec?container=main&stdout=true`);
    await refused(400, /at least one of stdin, stdout, stderr/, `${PODS}/p/exec?container=main&command=a`);
    await refused(403, /client supports \[v1\], server accepts \[v4/, execPath(['a'], OUTPUTS), {
      ...SPDY,
      'X-Stream-Protocol-Version': 'v1',
    });
    await refused(400, /Upgrade request required/, execPath(['a'], OUTPUTS), { Upgrade: 'h2c' });
    await refused(403, /pages of "https:\/\/evil.example" are refused/, execPath(['a'], OUTPUTS), {
      ...SPDY,
      Origin: 'https://evil.example',
    });
    await refused(403, /does not answer to the name/, execPath(['a'], OUTPUTS), {
      ...SPDY,
      Host: 'evil.example',
    });
    await refused(405, /does not allow this method/, execPath(['a'], OUTPUTS), SPDY, 'PUT');
    const plain = await rig.call('POST', execPath(['a'], OUTPUTS));
    assert.equal(plain.code, 400);
    assert.match(plain.body.message, /Upgrade request required/);
  });
});

test('nobody gets a command without credentials', async () => {
  await withKubelet(async (rig, kubelet) => {
    const socket = new WebSocket(`wss://127.0.0.1:${rig.port}${execPath(['say'], OUTPUTS)}`, [V5], {
      ca: rig.server.caPem,
    });
    const [error] = (await once(socket, 'error')) as [Error];
    assert.match(error.message, /403/);
    assert.deepEqual(kubelet.asked, []);
  });
});

test('without a kubelet the answer is 501, and the header is ignored elsewhere', async () => {
  await withApiServer(async (rig) => {
    await makePod(rig);
    const answer = await upgrade(rig, 'POST', execPath(['a'], OUTPUTS), SPDY);
    assert.equal(answer.code, 501);
    answer.socket.destroy();
    const version = await upgrade(rig, 'GET', '/version', { Upgrade: 'h2c' });
    assert.equal(version.code, 200);
    version.socket.destroy();
  });
});

test('discovery lists the subresources with their verbs', async () => {
  await withApiServer(async (rig) => {
    const { body } = await rig.call('GET', '/api/v1');
    for (const name of ['pods/exec', 'pods/attach', 'pods/portforward']) {
      const found = body.resources.find((each: { name: string }) => each.name === name);
      assert.deepEqual(found?.verbs, ['create', 'get'], name);
    }
  });
});

interface ForwardClient {
  readonly client: TestSpdyClient;
  connect(port: number | string): { readonly error: number; readonly data: number };
}

/** The same conversation in plain SPDY and in SPDY inside WebSocket. */
async function forwarders(rig: ApiRig): Promise<ForwardClient[]> {
  const path = `${PODS}/p/portforward`;
  return [await spdy(rig, path, 'portforward.k8s.io'), await tunnel(rig, path)].map((client) => {
    let requests = 0;
    return {
      client,
      connect(port) {
        const pair = { port: String(port), requestid: String(requests++) };
        const error = client.open({ ...pair, streamtype: 'error' });
        return { error, data: client.open({ ...pair, streamtype: 'data' }) };
      },
    };
  });
}

test('port-forward: many connections at a time, each to its end, both ways', async () => {
  const server = await tcpServer((socket) => socket.pipe(socket));
  try {
    await withKubelet(async (rig) => {
      for (const { client, connect } of await forwarders(rig)) {
        const pairs = Array.from({ length: 40 }, () => connect(server.port));
        pairs.forEach(({ data }, index) => {
          client.data(data, `connection ${index}`);
          client.data(data, '', true);
        });
        await client.until('every end', () =>
          pairs.every(({ data, error }) => client.received(data).fin && client.received(error).fin),
        );
        pairs.forEach(({ data, error }, index) => {
          assert.equal(client.received(data).bytes.toString(), `connection ${index}`);
          assert.equal(client.received(error).bytes.length, 0);
        });
        client.end();
      }
    });
  } finally {
    server.close();
  }
});

test('port-forward: what goes wrong is a sentence on the error stream, and the others go on', async () => {
  const server = await tcpServer((socket) => socket.pipe(socket));
  const closed = await tcpServer(() => {});
  closed.close();
  try {
    await withKubelet(async (rig) => {
      for (const { client, connect } of await forwarders(rig)) {
        const good = connect(server.port);
        client.data(good.data, 'still');
        const bad = connect(closed.port);
        await client.until('the error', () => client.received(bad.error).fin);
        const uid = (await rig.call('GET', `${PODS}/p`)).body.metadata.uid;
        assert.match(
          client.received(bad.error).bytes.toString(),
          new RegExp(`^error forwarding port ${closed.port} to pod p, uid ${uid}: .*ECONNREFUSED`),
        );
        const wrong = connect('70000');
        await client.until('refusals', () =>
          [wrong.error, wrong.data].every((id) =>
            client.of('rst-stream').some(({ streamId }) => streamId === id),
          ),
        );
        client.data(good.data, ' here', true);
        await client.until('the echo', () => client.received(good.data).fin);
        assert.equal(client.received(good.data).bytes.toString(), 'still here');
        client.end();
      }
    });
  } finally {
    server.close();
  }
});

test('port-forward: it closes when the pod goes', async () => {
  await withKubelet(async (rig, kubelet) => {
    const [plain, tunnelled] = await forwarders(rig);
    kubelet.podGone.abort();
    for (const { client } of [plain!, tunnelled!])
      await client.until('goodbye', () => client.of('goaway').length === 1);
  });
});

test('port-forward: connections end with the client', async () => {
  let ended: () => void = () => {};
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  let begun: () => void = () => {};
  const begin = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const server = await tcpServer((socket) => {
    socket.once('data', begun);
    socket.on('end', ended);
  });
  try {
    await withKubelet(async (rig) => {
      const [, tunnelled] = await forwarders(rig);
      const { data } = tunnelled!.connect(server.port);
      tunnelled!.client.data(data, 'x');
      await begin;
      tunnelled!.client.end();
      await end;
    });
  } finally {
    server.close();
  }
});
