// `kill -9` of one program of a mesh.

import { isAlive, type Mesh, until } from '../harness.ts';

/** Resolves when somebody has started it again. */
export async function killAndReturn(mesh: Mesh, program: string, node?: string): Promise<void> {
  const pid = mesh.pidOf(program, node);
  process.kill(pid, 'SIGKILL');
  await until(() => !isAlive(pid), `${program} to die`);
  await returned(mesh, program, pid, node);
}

/** Resolves when there is one process of it, and another than it was. */
export const returned = (mesh: Mesh, program: string, was: number, node?: string): Promise<void> =>
  until(() => {
    try {
      return mesh.pidOf(program, node) !== was;
    } catch {
      return false; // not there yet
    }
  }, `${program} to be started again`);
