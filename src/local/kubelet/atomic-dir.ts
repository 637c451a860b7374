// Directories whose files change all at once, as the kubelet writes them: files live in a dated directory, `..data` links to
// it, and the visible names link through `..data`. Readers see the old set or the new one, never a mixture.

import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface FileEntry {
  readonly content: string | Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

/** By relative path. */
export type FileSet = ReadonlyMap<string, FileEntry>;

const DATA = '..data';

/** Returns false when the directory held exactly these files already. */
export async function writeAtomically(dir: string, files: FileSet): Promise<boolean> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const former = await readlink(join(dir, DATA)).catch(() => undefined);
  if (former !== undefined && (await holds(join(dir, former), files))) return false;

  const fresh = await mkdtemp(join(dir, '..version_'));
  for (const [path, { content, mode }] of files) {
    const target = join(fresh, path);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFile(target, content, { mode });
    await chmod(target, mode); // whatever the umask says
  }
  await chmod(fresh, 0o755); // mkdtemp makes it private; programs under another uid read volumes too
  const link = join(dir, '..data_tmp');
  await rm(link, { force: true });
  await symlink(fresh.slice(dir.length + 1), link);
  await rename(link, join(dir, DATA));

  const names = new Set([...files.keys()].map((path) => path.split('/')[0] as string));
  const present = new Set((await readdir(dir)).filter((name) => !name.startsWith('..')));
  for (const name of names) if (!present.has(name)) await symlink(join(DATA, name), join(dir, name));
  for (const name of present) if (!names.has(name)) await rm(join(dir, name), { force: true });
  if (former !== undefined) await rm(join(dir, former), { recursive: true, force: true });
  return true;
}

async function holds(dir: string, files: FileSet): Promise<boolean> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  if (entries.filter((entry) => entry.isFile()).length !== files.size) return false;
  for (const [path, { content, mode }] of files) {
    const held = await readFile(join(dir, path)).catch(() => undefined);
    if (held === undefined || !held.equals(Buffer.from(content))) return false;
    if (((await stat(join(dir, path))).mode & 0o777) !== mode) return false;
  }
  return true;
}
