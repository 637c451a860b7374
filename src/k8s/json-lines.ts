// Newline-delimited JSON, as watch streams carry it: bytes in, any chunking, values out.

/** Bytes of one line that are held while its end has not arrived. An object is at most 3 MiB at the server's door. */
const LINE_LIMIT_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

export class JsonLinesDecoder {
  readonly #limitBytes: number;
  // The unfinished line. Pieces, not one growing buffer: a large object would be copied once per chunk.
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;

  constructor(limitBytes: number = LINE_LIMIT_BYTES) {
    this.#limitBytes = limitBytes;
  }

  /**
   * The values whose lines ended in this chunk. Throws SyntaxError on malformed JSON or an endless line; what came before
   * it is in `values` by then.
   */
  push(chunk: Uint8Array, values: unknown[] = []): unknown[] {
    let start = 0;
    // No byte of a multi-byte UTF-8 sequence is 0x0a, so lines can be cut before decoding.
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#hold(chunk.subarray(start, end));
      this.#finishLine(values);
      start = end + 1;
    }
    // Copied: the chunk belongs to the socket's buffer pool.
    if (start < chunk.length) this.#hold(chunk.slice(start));
    return values;
  }

  /** The stream has ended: a last line may lack its newline. Throws when it was cut short. */
  end(): unknown[] {
    const values: unknown[] = [];
    this.#finishLine(values);
    return values;
  }

  #hold(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#heldBytes += piece.length;
    if (this.#heldBytes > this.#limitBytes)
      throw new SyntaxError(`a line is longer than ${this.#limitBytes} bytes`);
    this.#pieces.push(piece);
  }

  #finishLine(values: unknown[]): void {
    const line = Buffer.concat(this.#pieces, this.#heldBytes).toString('utf8');
    this.#pieces = [];
    this.#heldBytes = 0;
    if (line.trim() !== '') values.push(JSON.parse(line));
  }
}
