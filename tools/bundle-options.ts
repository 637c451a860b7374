// How programs are bundled: the same for what is installed and for what is measured.

import { join } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';

const bundled = (name: string): string => join(import.meta.dirname, 'bundled', name);

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

const EVERYWHERE = [bundled('collect-once.ts'), bundled('end-at-once.ts')];

export const BUNDLE_OPTIONS: BuildOptions = {
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
  inject: EVERYWHERE,
  plugins: [requireBuiltins],
  logLevel: 'warning',
  banner: { js: "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);" },
};

/** The control plane: Connect shall not load the whole of fetch. */
export const CONTROL_OPTIONS: BuildOptions = {
  ...BUNDLE_OPTIONS,
  inject: [...EVERYWHERE, bundled('plain-headers.ts')],
};
