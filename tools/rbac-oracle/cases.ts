// Random pairs of rule lists for the oracle beside this file, the same in every run. Run by hand:
//   node tools/rbac-oracle/cases.ts | (cd tools/rbac-oracle && go run .) > src/local/apiserver/rbac/covers.golden.json

import fc from 'fast-check';

const some = (...values: string[]): fc.Arbitrary<string[]> => fc.subarray(values, { minLength: 1 });
const rule = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      verbs: some('get', 'list', '*'),
      apiGroups: some('', 'apps', '*'),
      resources: some('pods', 'pods/log', 'deployments', '*/scale', 'deployments/scale', '*', 'pods/*'),
      resourceNames: fc.subarray(['a', 'b']),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      verbs: some('get', '*'),
      nonResourceURLs: some('/', '/a', '/a/*', '/a/b', '/*', '*'),
    }),
  },
);
const pair = fc.record({ held: fc.array(rule, { maxLength: 3 }), wanted: fc.array(rule, { maxLength: 2 }) });
process.stdout.write(`${JSON.stringify(fc.sample(pair, { numRuns: 80, seed: 2026 }))}\n`);
