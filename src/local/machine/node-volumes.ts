// Where the volumes of claims are on the host: below the node's directory of the cluster's state, bound into the node at
// NODE_VOLUMES_DIR (node-root.ts), so that they outlive nodes that die and machines that end.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';

/** Both come from objects that people may write: a name must not lead out of the directory. */
const SAFE_NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

/** The directory of a volume is gone afterwards. @throws MeshError LOCAL_MACHINE_FAILED */
export async function removeNodeVolume(
  stateDir: string,
  nodeName: string,
  volumeName: string,
): Promise<void> {
  if (!SAFE_NAME.test(nodeName) || !SAFE_NAME.test(volumeName))
    throw new MeshError(
      'LOCAL_MACHINE_FAILED',
      `no volume can be called ${JSON.stringify(volumeName)} on node ${JSON.stringify(nodeName)}`,
    );
  try {
    await rm(join(stateDir, 'nodes', nodeName, 'volumes', volumeName), { recursive: true, force: true });
  } catch (error) {
    throw MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot remove the data of volume ${volumeName}`);
  }
}
