// Bundles every program of bin/ and every sample service of examples/shop into dist/, one file each.
// Several programs may start at once on a stale checkout: a lock file lets one of them build while the others wait.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { build, type OutputFile } from 'esbuild';
import { BUNDLE_OPTIONS, CONTROL_OPTIONS } from './bundle-options.ts';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const chunks = join(dist, 'chunks');
const lock = join(dist, 'building');
const stamp = join(dist, 'built');
const LOCK_STALE_MS = 60_000;

function entryPoints(): string[] {
  const programs = readdirSync(join(root, 'bin')).filter((name) => name.endsWith('.ts'));
  const shop = join(root, 'examples/shop');
  const services = existsSync(shop) ? readdirSync(shop).filter((name) => name.endsWith('.ts')) : [];
  return [...programs.map((name) => join(root, 'bin', name)), ...services.map((name) => join(shop, name))];
}

/** Returns true when this process now owns the lock, false when another one finished the same work meanwhile. */
async function acquireLock(): Promise<boolean> {
  const startedAt = Date.now();
  for (;;) {
    try {
      closeSync(openSync(lock, 'wx'));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const lockAge = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (lockAge > LOCK_STALE_MS) rmSync(lock, { force: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    if ((statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0) > startedAt) return false;
  }
}

/** Programs may be starting from there: each finds a whole file, and what has not changed is not touched. */
function put(files: readonly OutputFile[]): void {
  mkdirSync(chunks, { recursive: true });
  for (const { path, contents } of files) {
    if (existsSync(path) && readFileSync(path).equals(contents)) continue;
    writeFileSync(`${path}.new`, contents);
    renameSync(`${path}.new`, path);
  }
  // Chunks are named by their content: those of earlier builds would pile up.
  const current = new Set(files.map(({ path }) => path));
  for (const name of readdirSync(chunks)) if (!current.has(join(chunks, name))) rmSync(join(chunks, name));
}

mkdirSync(dist, { recursive: true });
if (await acquireLock()) {
  try {
    const startedAt = new Date();
    // The proxy loads a few things only when it is told to (a static state file, an authority of its own). In a bundle
    // of one file they would cost every node's proxy their weight, so it alone is split.
    const [proxy, others] = [join(root, 'bin/ztunnel.ts'), entryPoints()];
    const control = join(root, 'bin/control.ts');
    const shared = { ...BUNDLE_OPTIONS, outdir: dist, write: false } as const;
    const built = await Promise.all([
      build({ ...shared, entryPoints: others.filter((name) => name !== proxy && name !== control) }),
      build({ ...CONTROL_OPTIONS, outdir: dist, write: false, entryPoints: [control] }),
      build({ ...shared, entryPoints: [proxy], splitting: true, chunkNames: 'chunks/[name]-[hash]' }),
    ]);
    put(built.flatMap(({ outputFiles }) => outputFiles));
    // The stamp carries the time the build began: a source saved during the build counts as newer.
    writeFileSync(stamp, `${startedAt.toISOString()}\n`);
    utimesSync(stamp, startedAt, startedAt);
  } finally {
    rmSync(lock, { force: true });
  }
}
