// kill -9 at any moment: the API server as a process of its own, under the load of several writers, killed twenty times.
// Every write that was acknowledged is there afterwards; versions go on where they were and never repeat.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { CONFIG_MAPS, type ConfigMap } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';

const KILLS = 20;
const WRITERS = 6;
const NAMES = 4;

interface Running {
  readonly child: ChildProcess;
  readonly client: KubeClient;
}

async function start(stateDir: string): Promise<Running> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'apiserver-child.ts'), stateDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
  const pki = (name: string): string => readFileSync(join(stateDir, 'pki', name), 'utf8');
  const client = createRestClient({
    server: `https://127.0.0.1:${line}`,
    tls: () => ({ caPem: pki('ca.crt'), clientCertPem: pki('admin.crt'), clientKeyPem: pki('admin.key') }),
  });
  return { child, client };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** What a name holds; undefined when it does not exist. */
type Held = string | undefined;

interface Writer {
  /** Acknowledged state by name. */
  readonly held: Map<string, Held>;
  /** Asked for, and not answered when the server died: it may have happened. */
  pending: { readonly name: string; readonly value: Held } | undefined;
}

class Load {
  readonly writers: Writer[] = Array.from({ length: WRITERS }, () => ({
    held: new Map(),
    pending: undefined,
  }));
  /** Versions in the order of their acknowledgement, over all lives of the server. */
  readonly versions: number[] = [];
  #serial = 0;

  /** Every writer goes on until its server is gone. */
  async run(client: KubeClient, acknowledged: () => void): Promise<void> {
    await Promise.all(this.writers.map((writer, index) => this.#write(writer, index, client, acknowledged)));
  }

  async #write(writer: Writer, index: number, client: KubeClient, acknowledged: () => void): Promise<void> {
    for (let step = 0; ; step++) {
      const name = `w${index}-${step % NAMES}`;
      const present = writer.held.get(name) !== undefined;
      const value = present && step % 3 === 0 ? undefined : `v${this.#serial++}`;
      writer.pending = { name, value };
      try {
        const version = await this.#step(client, name, present, value);
        if (version !== undefined) this.versions.push(version);
      } catch (error) {
        if (error instanceof MeshError && error.code === 'API_UNREACHABLE') return;
        throw error;
      }
      writer.held.set(name, value);
      writer.pending = undefined;
      acknowledged();
    }
  }

  async #step(client: KubeClient, name: string, present: boolean, value: Held): Promise<number | undefined> {
    if (value === undefined) {
      await client.delete(CONFIG_MAPS, name, { namespace: 'default' });
      return undefined;
    }
    const body: ConfigMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace: 'default' },
      data: { value },
    };
    const written = present
      ? await client.patch(CONFIG_MAPS, name, 'merge', { data: { value } }, { namespace: 'default' })
      : await client.create(CONFIG_MAPS, body);
    return Number(written.metadata.resourceVersion);
  }

  /** Compares with what the server has after a restart; what was in doubt is then known. */
  async check(client: KubeClient): Promise<number> {
    const { items, resourceVersion } = await client.list(CONFIG_MAPS, { namespace: 'default' });
    const found = new Map(items.map(({ metadata, data }) => [metadata.name, data?.value]));
    for (const writer of this.writers) {
      const { pending } = writer;
      if (pending !== undefined && found.get(pending.name) === pending.value)
        writer.held.set(pending.name, pending.value);
      writer.pending = undefined;
      for (const [name, value] of writer.held) assert.equal(found.get(name), value, `${name} after the kill`);
    }
    return Number(resourceVersion);
  }
}

test('twenty kills under load: nothing acknowledged is lost, no version comes twice', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-kill-'));
  let running: Running | undefined;
  try {
    const load = new Load();
    running = await start(stateDir);
    for (let round = 0; round < KILLS; round++) {
      const { child, client } = running;
      // At any moment: after a different number of writes each time, with others under way.
      let left = 20 + ((round * 37) % 60);
      const before = load.versions.length;
      await Promise.all([
        load.run(client, () => {
          if (--left === 0) child.kill('SIGKILL');
        }),
        once(child, 'exit'),
      ]);
      client.close();
      running = await start(stateDir);
      const version = await load.check(running.client);
      const acknowledged = load.versions.slice(before);
      assert.ok(acknowledged.length > 0);
      assert.ok(
        version >= Math.max(...acknowledged),
        `version ${version} after ${Math.max(...acknowledged)}`,
      );
      const next = await running.client.create<ConfigMap>(CONFIG_MAPS, {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: `after-${round}`, namespace: 'kube-public' },
      });
      assert.ok(Number(next.metadata.resourceVersion) > version);
      load.versions.push(Number(next.metadata.resourceVersion));
    }
    assert.equal(new Set(load.versions).size, load.versions.length, 'a version was given twice');
    assert.ok(load.versions.length > KILLS * 10);
  } finally {
    running?.client.close();
    if (running !== undefined && running.child.exitCode === null) await kill(running.child);
    rmSync(stateDir, { recursive: true, force: true });
  }
});
