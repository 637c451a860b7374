// Writes a tar archive (POSIX ustar; IEEE Std 1003.1, pax, "ustar Interchange Format") of files that are held in memory.

export interface TarFile {
  /** Relative, with `/` between its parts. */
  readonly path: string;
  readonly text: string;
}

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;

/** @throws RangeError when a path does not fit the format */
export function tarArchive(files: readonly TarFile[], modifiedAtMs: number): Buffer {
  const pieces: Buffer[] = [];
  for (const { path, text } of files) {
    const body = Buffer.from(text, 'utf8');
    pieces.push(header(path, body.length, modifiedAtMs), body, padding(body.length));
  }
  pieces.push(Buffer.alloc(2 * BLOCK_BYTES));
  return Buffer.concat(pieces);
}

const padding = (lengthBytes: number): Buffer =>
  Buffer.alloc((BLOCK_BYTES - (lengthBytes % BLOCK_BYTES)) % BLOCK_BYTES);

function header(path: string, sizeBytes: number, modifiedAtMs: number): Buffer {
  const [prefix, name] = splitPath(path);
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, widthBytes: number): void => {
    block.write(`${value.toString(8).padStart(widthBytes - 1, '0')}\0`, at, 'latin1');
  };
  block.write(name, 0, 'utf8');
  octal(0o600, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(sizeBytes, 124, 12);
  octal(Math.floor(modifiedAtMs / 1000), 136, 12);
  block.write('        ', 148, 'latin1'); // the checksum counts as spaces while it is computed
  block.write('0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write(prefix, 345, 'utf8');
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function splitPath(path: string): [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= NAME_BYTES) return ['', path];
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    const [prefix, name] = [path.slice(0, slash), path.slice(slash + 1)];
    if (Buffer.byteLength(name) <= NAME_BYTES && Buffer.byteLength(prefix) <= PREFIX_BYTES)
      return [prefix, name];
  }
  throw new RangeError(`${path} is too long for an archive`);
}
