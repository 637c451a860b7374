// One mesh for all tests of a file or a suite.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { type Mesh, startMesh } from '../harness.ts';

/** Starts before them and ends after them; the function gives it to each. `start` may decide that there is none. */
export function sharedMesh(start: () => Promise<Mesh | undefined> = startMesh): () => Mesh {
  let started: Mesh | undefined;
  before(async () => {
    started = await start();
  });
  after(() => started?.stop());
  return () => started ?? assert.fail('no mesh');
}
