// Bundles every program of bin/ and every sample service of examples/shop into dist/, one file each.
// Several programs may start at once on a stale checkout: a lock file lets one of them build while the others wait.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const lock = join(dist, 'building');
const stamp = join(dist, 'built');
const LOCK_STALE_MS = 60_000;

/**
 * Loads Node's own modules by `require`. An ES import of one evaluates all its exports, the lazy ones too: importing
 * `node:http` so pulls in the whole of fetch and WebSocket, 7 MB in every process (docs/decisions/0004-node-memory.md).
 */
const requireBuiltins: Plugin = {
  name: 'require-builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, namespace, kind }) =>
      // A chunk made of one would have a default export only, and `import()` of it none of the names that it is asked for.
      namespace === 'builtin' || kind === 'dynamic-import'
        ? { path, external: true }
        : { path, namespace: 'builtin' },
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
};

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

mkdirSync(dist, { recursive: true });
if (await acquireLock()) {
  try {
    const startedAt = new Date();
    // Chunks are named by their content: those of earlier builds would pile up.
    rmSync(join(dist, 'chunks'), { recursive: true, force: true });
    // The proxy loads a few things only when it is told to (a static state file, an authority of its own). In a bundle
    // of one file they would cost every node's proxy their weight, so it alone is split.
    const [proxy, others] = [join(root, 'bin/ztunnel.ts'), entryPoints()];
    const shared: BuildOptions = {
      outdir: dist,
      entryNames: '[name]',
      outExtension: { '.js': '.mjs' },
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node26',
      minifySyntax: true,
      minifyWhitespace: true,
      // No `keepNames`: it names every closure as it is made, which was a tenth of what a proxied connection costs.
      sourcemap: 'linked',
      sourcesContent: false,
      // koffi loads a prebuilt native library that lies beside its own package; the CEL evaluator is loaded by few clusters.
      external: ['koffi', '@bufbuild/cel', '@bufbuild/cel/ext'],
      plugins: [requireBuiltins],
      logLevel: 'warning',
      banner: { js: "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);" },
    };
    await build({ ...shared, entryPoints: others.filter((name) => name !== proxy) });
    await build({ ...shared, entryPoints: [proxy], splitting: true, chunkNames: 'chunks/[name]-[hash]' });
    // The stamp carries the time the build began: a source saved during the build counts as newer.
    writeFileSync(stamp, `${startedAt.toISOString()}\n`);
    utimesSync(stamp, startedAt, startedAt);
  } finally {
    rmSync(lock, { force: true });
  }
}
