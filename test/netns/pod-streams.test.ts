// exec, attach, cp and port-forward as people type them: stock kubectls, old (SPDY) and current (WebSocket), against real
// containers.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before } from 'node:test';
import { sleep } from '#base/clock.ts';
import { type Machine, startMachine } from '#local/machine/front.ts';
import { silentLogger } from '#telemetry/log.ts';
import { freePort } from '../lib/free-port.ts';
import { type Kubectl, kubectls, testEachKubectl } from '../lib/kubectls.ts';
import { isCalledWith, localPid } from './lib/machine-processes.ts';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'culvert-streams-'));
const LIMIT_MS = 30_000;

let machine: Machine | undefined;

interface Run {
  readonly code: number | null;
  readonly out: Buffer;
  readonly err: string;
}

const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: folder,
  KUBECONFIG: join(folder, 'kubeconfig'),
});

function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, args, { env: environment(), cwd: folder, stdio: 'pipe' });
}

async function run(program: string, args: readonly string[], input: Buffer | string = ''): Promise<Run> {
  const child = start(program, args);
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  child.stdin!.on('error', () => {});
  child.stdin!.end(input);
  const [out, err, [code]] = await Promise.all([
    buffer(child.stdout!),
    buffer(child.stderr!),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  clearTimeout(timer);
  return { code, out, err: err.toString() };
}

const exec = (kubectl: Kubectl, ...args: string[]): Promise<Run> =>
  run(kubectl.path, ['exec', 'box', '-c', 'main', ...args]);

async function eventually<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`never came: ${what}`);
    await sleep(50);
  }
}

/** Processes on this machine whose command line holds the word. */
function processesWith(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => isCalledWith(pid, word));
}

const serverScript = `const http = require('http'); const answer = (q, r) => r.end('asked ' + q.url);
http.createServer(answer).listen(8080, '127.0.0.1'); http.createServer(answer).listen(8081, '::1');`;

const manifest = (name: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: local/shell
    stdin: true
    command: [/bin/sh, -c, 'while read line; do echo "got $line"; done']
    env: [{name: COLOUR, value: red}]
    workingDir: /tmp
  - name: web
    image: local/shell
    command: [${process.execPath}, -e, ${JSON.stringify(serverScript)}]
    readinessProbe: {exec: {command: [/bin/sh, -c, 'grep -q :1F90 /proc/net/tcp && grep -q :1F91 /proc/net/tcp6']}, periodSeconds: 1}
`;

/** On a terminal of its own. */
const TERMINAL = `
apiVersion: v1
kind: Pod
metadata: {name: term}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: local/shell
    stdin: true
    tty: true
    command: [/bin/sh, -c, 'while read line; do echo "got $line on $(tty), $TERM, $(stty size)"; done']
`;

const EVERYTHING = `${manifest('box')}
---
${TERMINAL}
---
apiVersion: v1
kind: Service
metadata: {name: box}
spec: {selector: {app: box}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: local/shell, command: [sleep, '100000']}]
`;

before(async () => {
  const built = spawnSync(process.execPath, [join(root, 'tools/bundle.ts')], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  machine = await startMachine({
    stateDir: join(folder, 'state'),
    runDir: join(folder, 'run'),
    root,
    node: process.execPath,
    apiPort: await freePort(),
    log: silentLogger,
  });
  writeFileSync(join(folder, 'kubeconfig'), (await machine.ready).kubeconfig, { mode: 0o600 });
  const any = kubectls().find((each) => 'path' in each);
  if (any === undefined || !('path' in any)) return; // every case below is skipped, too
  const applied = await run(any.path, ['apply', '-f', '-'], EVERYTHING);
  assert.equal(applied.code, 0, applied.err);
  for (const what of ['pod/box', 'deployment/idle']) {
    const condition = what.startsWith('pod') ? 'Ready' : 'Available';
    const waited = await run(any.path, ['wait', `--for=condition=${condition}`, what, '--timeout=60s']);
    assert.equal(waited.code, 0, waited.err);
  }
});

after(async () => {
  await machine?.stop();
  rmSync(folder, { recursive: true, force: true });
});

testEachKubectl(
  'exec: outputs apart, exit code, environment and directory of the container',
  async (kubectl) => {
    const { code, out, err } = await exec(
      kubectl,
      '--',
      'sh',
      '-c',
      'echo $COLOUR $PWD; echo oh >&2; exit 3',
    );
    assert.equal(out.toString(), 'red /tmp\n');
    assert.match(err, /^oh\n/m);
    assert.equal(code, 3);
    assert.match((await exec(kubectl, '--', 'no-such-program')).err, /no-such-program/);
  },
);

testEachKubectl('exec -i: a large input to its end, and back unchanged', async (kubectl) => {
  const bytes = randomBytes(5_000_000);
  const { code, out } = await run(kubectl.path, ['exec', '-i', 'box', '-c', 'main', '--', 'cat'], bytes);
  assert.equal(code, 0);
  assert.ok(out.equals(bytes), `${out.length} of ${bytes.length} bytes, or others`);
});

testEachKubectl('exec: what a command left running holds nobody up', async (kubectl) => {
  const { out, code } = await exec(kubectl, '--', 'sh', '-c', 'sleep 71.71 & echo done');
  assert.equal(out.toString(), 'done\n');
  assert.equal(code, 0);
  for (const pid of processesWith('71.71')) process.kill(pid);
});

testEachKubectl('exec: /dev/stdout can be opened again', async (kubectl) => {
  const { out } = await exec(kubectl, '--', 'sh', '-c', 'echo again > /dev/stdout');
  assert.equal(out.toString(), 'again\n');
});

testEachKubectl(
  'exec -it: a terminal with its size, the controlling one, and the exit code',
  async (kubectl) => {
    const command = `stty rows 33 cols 101; ${kubectl.path} exec -it box -c main -- sh -c 'stty size; test -t 0 && tty && echo x > /dev/tty; exit 4'`;
    const { code, out } = await run('script', ['-qec', command, '/dev/null']);
    assert.match(out.toString(), /33 101\r\n\/dev\/pts\/\d+\r\nx\r\n/);
    assert.equal(code, 4);
  },
);

testEachKubectl('exec -it: a new size reaches the program', async (kubectl) => {
  const inner = 'trap "stty size; exit 5" WINCH; stty size; while :; do sleep 0.1; done';
  const command = `stty rows 33 cols 101; (sleep 1; while stty -F /dev/tty rows 40 cols 90; do sleep 1; stty -F /dev/tty rows 41 cols 90; sleep 1; done) & ${kubectl.path} exec -it box -c main -- sh -c '${inner}'; code=$?; kill $!; exit $code`;
  const { code, out } = await run('script', ['-qec', command, '/dev/null']);
  assert.match(out.toString(), /4[01] 90/);
  assert.equal(code, 5);
});

testEachKubectl('exec deploy/NAME, and a container that is not there', async (kubectl) => {
  const { out, err } = await run(kubectl.path, ['exec', 'deploy/idle', '--', 'echo', 'here']);
  assert.equal(out.toString(), 'here\n', err);
  const absent = await run(kubectl.path, ['exec', 'box', '-c', 'none', '--', 'true']);
  assert.equal(absent.code, 1);
  assert.match(absent.err, /none/);
});

testEachKubectl('cp: there and back', async (kubectl) => {
  const bytes = randomBytes(300_000);
  writeFileSync(join(folder, 'there'), bytes);
  const there = await run(kubectl.path, ['cp', 'there', 'box:/tmp/file', '-c', 'main']);
  assert.equal(there.code, 0, there.err);
  const back = await run(kubectl.path, ['cp', 'box:/tmp/file', 'back', '-c', 'main']);
  assert.equal(back.code, 0, back.err);
  assert.ok(readFileSync(join(folder, 'back')).equals(bytes));
  rmSync(join(folder, 'back'));
});

testEachKubectl('attach: what the container says to what it is told', async (kubectl) => {
  const child = start(kubectl.path, ['attach', '-i', 'box', '-c', 'main']);
  let said = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stdin!.on('error', () => {});
  try {
    await eventually('the answer', () => {
      child.stdin!.write('hello\n'); // what is said before the client is attached is not for it
      return said.includes('got hello') ? true : undefined;
    });
  } finally {
    child.kill();
  }
  const refused = await run(kubectl.path, ['attach', '-i', 'box', '-c', 'web']);
  assert.match(refused.err, /stdin: true|takes no input/);
});

/** Types into a terminal of its own in which kubectl runs, whenever what was said lets it. */
async function onTerminal(
  command: string,
  until: (said: string) => boolean,
  type: (said: string) => string | undefined,
): Promise<{ said: string; code: number | null }> {
  const child = start('script', ['-qec', command, '/dev/null']);
  let said = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stdin!.on('error', () => {});
  try {
    await eventually(`the end of a talk (so far: ${said})`, () => {
      if (until(said)) return true;
      const text = type(said);
      if (text !== undefined) child.stdin!.write(text);
      return child.exitCode === null ? undefined : true;
    });
  } finally {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  return { said, code: child.exitCode };
}

testEachKubectl(
  'attach -it: the terminal of the container, with the size of the client’s',
  async (kubectl) => {
    const answer = /got hello on \/dev\/pts\/\d+, xterm, 33 101\r\n/;
    const { said } = await onTerminal(
      `stty rows 33 cols 101; ${kubectl.path} attach -it term -c main`,
      (text) => answer.test(text),
      () => 'hello\n', // what is typed before the client is attached is not for it
    );
    assert.match(said, answer);
    // Another client finds it as it is; without -t it has no size to give.
    const plain = start(kubectl.path, ['attach', '-i', 'term', '-c', 'main']);
    let heard = '';
    plain.stdout!.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    plain.stdin!.on('error', () => {});
    try {
      await eventually('the answer without a terminal', () => {
        plain.stdin!.write('again\n');
        return heard.includes('got again on /dev/pts/') ? true : undefined;
      });
    } finally {
      plain.kill();
    }
  },
);

testEachKubectl(
  'run -it --rm: a shell in a pod of its own, its exit code, and nothing left',
  async (kubectl) => {
    const name = `shell-${randomBytes(3).toString('hex')}`;
    let typed = false;
    const { said, code } = await onTerminal(
      `${kubectl.path} run ${name} --image=local/shell -it --rm --restart=Never`,
      () => false,
      (text) => {
        if (typed || !/[#$] $/.test(text)) return undefined;
        typed = true;
        return 'echo $((6*7)) on $(tty); exit 3\n';
      },
    );
    assert.match(said, /42 on \/dev\/pts\/\d+\r\n/);
    assert.equal(code, 3, said);
    const gone = await run(kubectl.path, ['get', 'pod', name]);
    assert.match(gone.err, /NotFound/);
  },
);

async function forward(
  kubectl: Kubectl,
  target: string,
  port: number,
  use: (url: string, child: ChildProcess) => Promise<void>,
): Promise<string> {
  const child = start(kubectl.path, ['port-forward', target, `:${port}`]);
  let said = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  try {
    const local = await eventually(`port-forward of ${target}`, () => {
      if (child.exitCode !== null) throw new Error(said);
      return /127\.0\.0\.1:(\d+) ->/.exec(said)?.[1];
    });
    await use(`http://127.0.0.1:${local}`, child);
    return said;
  } finally {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
}

testEachKubectl('port-forward: many requests at a time, to a pod, a service, and ::1', async (kubectl) => {
  for (const [target, port] of [
    ['pod/box', 8080],
    ['svc/box', 80],
    ['pod/box', 8081],
  ] as const)
    await forward(kubectl, target, port, async (url) => {
      const answers = await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const response = await fetch(`${url}/${index}`, { headers: { connection: 'close' } });
          return await response.text();
        }),
      );
      assert.deepEqual(
        answers,
        Array.from({ length: 20 }, (_, index) => `asked /${index}`),
      );
    });
});

testEachKubectl('port-forward: a port where nobody listens is said to be one', async (kubectl) => {
  const child = start(kubectl.path, ['port-forward', 'pod/box', ':81']);
  let said = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  try {
    const local = await eventually('port-forward', () => /127\.0\.0\.1:(\d+) ->/.exec(said)?.[1]);
    await assert.rejects(fetch(`http://127.0.0.1:${local}/`));
    await eventually('the reason', () =>
      /error forwarding port 81 to pod box.*refused/.test(said) ? true : undefined,
    );
  } finally {
    child.kill();
  }
});

testEachKubectl('port-forward: it ends with its pod', async (kubectl) => {
  assert.equal((await run(kubectl.path, ['apply', '-f', '-'], manifest('brief'))).code, 0);
  const ready = await run(kubectl.path, ['wait', '--for=condition=Ready', 'pod/brief', '--timeout=60s']);
  assert.equal(ready.code, 0, ready.err);
  await forward(kubectl, 'pod/brief', 8080, async (url, child) => {
    assert.equal(await (await fetch(`${url}/a`, { headers: { connection: 'close' } })).text(), 'asked /a');
    const over = once(child, 'exit');
    assert.equal((await run(kubectl.path, ['delete', 'pod', 'brief'])).code, 0);
    // Older clients stay until the next connection.
    await Promise.race([
      over,
      eventually('a refusal', () =>
        fetch(url).then(
          () => undefined,
          () => true,
        ),
      ),
    ]);
  });
});

testEachKubectl('a client that vanishes leaves no process behind', async (kubectl) => {
  for (const command of [
    ['yes', 'gone-89'],
    ['sleep', '89.89'],
    ['sh', '-c', 'trap "" TERM HUP; sleep 98.98; true'],
  ]) {
    const word = command.at(-1)!;
    const child = start(kubectl.path, ['exec', 'box', '-c', 'main', '--', ...command]);
    child.stdout!.pause();
    const inside = (): number[] => processesWith(word).filter((pid) => pid !== child.pid);
    await eventually(`the start of ${word}`, () => (inside().length > 0 ? true : undefined));
    child.kill('SIGKILL');
    await eventually(`the end of ${word}`, () => (inside().length === 0 ? true : undefined));
  }
});

testEachKubectl('a command ends with its container', async (kubectl) => {
  assert.equal((await run(kubectl.path, ['apply', '-f', '-'], manifest('ends'))).code, 0);
  const ready = await run(kubectl.path, ['wait', '--for=condition=Ready', 'pod/ends', '--timeout=60s']);
  assert.equal(ready.code, 0, ready.err);
  const session = run(kubectl.path, ['exec', 'ends', '-c', 'main', '--', 'sleep', '97.97']);
  await eventually('the command', () => (processesWith('97.97').length > 1 ? true : undefined));
  assert.equal((await run(kubectl.path, ['delete', 'pod', 'ends'])).code, 0);
  assert.notEqual((await session).code, 0);
  assert.deepEqual(processesWith('97.97'), []);
});

testEachKubectl('a slow reader costs LOCAL no memory', async (kubectl) => {
  const local = await eventually('LOCAL', () => localPid(machine!.pid));
  const child = start(kubectl.path, ['exec', 'box', '-c', 'main', '--', 'cat', '/dev/zero']);
  try {
    // Read a little, then no more: pipes, sockets and windows fill up.
    child.stdout!.once('data', () => child.stdout!.pause());
    await once(child.stdout!, 'data');
    await sleep(500);
    const before = residentMb(local);
    await sleep(2000);
    assert.ok(residentMb(local) - before < 60, `${before} MB grew to ${residentMb(local)} MB`);
  } finally {
    child.kill('SIGKILL');
  }
});

const residentMb = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
