// Header blocks of SPDY/3.1 (§2.6.10): names and values, zlib-compressed with the protocol's dictionary. All blocks of one
// direction are one zlib stream.

import { constants, createInflate, type Inflate } from 'node:zlib';
import { MeshError, reasonOf } from '#base/errors.ts';

/** Names are lower-case; several values of one name are joined by NUL on the wire. */
export type SpdyHeaders = ReadonlyMap<string, readonly string[]>;

/** Words of the dictionary, in its order; each is preceded by its length as 32 bits (§2.6.10.1). */
const DICTIONARY_WORDS =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin';
const DICTIONARY_TAIL =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

export const DICTIONARY: Buffer = Buffer.concat([
  ...DICTIONARY_WORDS.split(' ').flatMap((word) => [
    uint32(word.length),
    Buffer.from(word.replace('_', ' ')),
  ]),
  Buffer.from(DICTIONARY_TAIL),
]);

const MAX_BLOCK_BYTES = 64 * 1024;
const MAX_HEADERS = 100;

const broken = (what: string): MeshError => new MeshError('STREAM_PROTOCOL', `SPDY: ${what}`);

/** Reads the header blocks of one direction, in their order. */
export class HeaderReader {
  readonly #inflate: Inflate = createInflate({
    dictionary: DICTIONARY,
    flush: constants.Z_SYNC_FLUSH,
    finishFlush: constants.Z_SYNC_FLUSH,
  });
  #parts: Buffer[] = [];
  #lengthBytes = 0;
  #fail: (error: MeshError) => void = () => {};

  constructor() {
    this.#inflate.on('data', (part: Buffer) => {
      this.#lengthBytes += part.length;
      if (this.#lengthBytes <= MAX_BLOCK_BYTES) this.#parts.push(part);
      else this.#inflate.destroy(broken(`a header block of more than ${MAX_BLOCK_BYTES} bytes`));
    });
    this.#inflate.on('error', (error) =>
      this.#fail(
        error instanceof MeshError ? error : broken(`a header block that is no zlib: ${reasonOf(error)}`),
      ),
    );
  }

  /** One at a time. Rejects with MeshError STREAM_PROTOCOL; nothing can be read after that. */
  read(block: Buffer): Promise<SpdyHeaders> {
    this.#parts = [];
    this.#lengthBytes = 0;
    return new Promise<Buffer>((resolve, reject) => {
      this.#fail = reject;
      if (this.#inflate.destroyed) {
        reject(broken('header blocks cannot be read any more'));
        return;
      }
      this.#inflate.write(block, (error) => {
        if (error === null || error === undefined) resolve(Buffer.concat(this.#parts));
      });
    }).then(parseHeaders);
  }

  close(): void {
    this.#inflate.destroy();
  }
}

export function parseHeaders(block: Buffer): SpdyHeaders {
  let at = 0;
  const word = (): number => {
    if (at + 4 > block.length) throw broken('a header block that ends early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const lengthBytes = word();
    if (at + lengthBytes > block.length) throw broken('a header block that ends early');
    at += lengthBytes;
    return block.toString('latin1', at - lengthBytes, at);
  };
  const count = word();
  if (count > MAX_HEADERS) throw broken(`${count} headers; the limit is ${MAX_HEADERS}`);
  const headers = new Map<string, readonly string[]>();
  for (let index = 0; index < count; index++) {
    const name = text();
    if (name === '' || name !== name.toLowerCase()) throw broken(`a header named ${JSON.stringify(name)}`);
    if (headers.has(name)) throw broken(`header ${name} twice`);
    headers.set(name, text().split('\0'));
  }
  if (at !== block.length) throw broken('bytes after the last header');
  return headers;
}

export const firstHeader = (headers: SpdyHeaders, name: string): string => headers.get(name)?.[0] ?? '';

/**
 * Writes header blocks as stored deflate blocks: our few headers are not worth compressing, and what is not compressed
 * needs no waiting. A stream that names no dictionary is a valid one (RFC 1950 §2.2).
 */
export class HeaderWriter {
  #started = false;

  write(headers: SpdyHeaders): Buffer {
    const pieces: Buffer[] = [uint32(headers.size)];
    for (const [name, values] of headers) {
      for (const text of [name, values.join('\0')]) {
        const bytes = Buffer.from(text, 'latin1');
        pieces.push(uint32(bytes.length), bytes);
      }
    }
    const plain = Buffer.concat(pieces);
    if (plain.length > 0xffff) throw new RangeError('a header block holds less than 64 KiB');
    const zlibHeader = this.#started ? [] : [Buffer.from([0x78, 0x01])];
    this.#started = true;
    // The empty block at the end tells a decoder to hand out what it has (a "sync flush").
    return Buffer.concat([...zlibHeader, storedHeader(plain.length), plain, storedHeader(0)]);
  }
}

/** RFC 1951 §3.2.4: not final, stored, length and its complement. */
function storedHeader(lengthBytes: number): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt16LE(lengthBytes, 1);
  header.writeUInt16LE(~lengthBytes & 0xffff, 3);
  return header;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
