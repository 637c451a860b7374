// Compression for answers, in a module of its own so that it is loaded with the first one that needs it. (A part of the bundle
// that is Node's module itself would have no named exports.)

import { gzipSync } from 'node:zlib';

export function gzip(body: string | Uint8Array): Uint8Array {
  return gzipSync(body);
}
