// Container log lines in the CRI form: `TIME STREAM TAG TEXT`, where TAG is F for a full line and P for a part of one.
// Pure: splitting what a process writes, and reading lines back.

export type LogStream = 'stdout' | 'stderr';

/** Longer lines are cut into parts, as container runtimes do. */
const MAX_PART_BYTES = 16 * 1024;
const NEWLINE = 10;

/** Splits one stream into CRI lines; keeps an unfinished line until it ends or grows too long. */
export class CriLineSplitter {
  readonly #stream: LogStream;
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(stream: LogStream) {
    this.#stream = stream;
  }

  push(chunk: Buffer, now: Date): string {
    let out = '';
    let from = 0;
    while (from < chunk.length) {
      const newline = chunk.indexOf(NEWLINE, from);
      const room = MAX_PART_BYTES - this.#heldBytes;
      const end = newline < 0 ? chunk.length : newline;
      if (end - from > room) {
        const cut = characterStart(chunk, from + room, from);
        this.#hold(chunk.subarray(from, cut));
        out += this.#take('P', now);
        from = cut;
      } else if (newline < 0) {
        this.#hold(chunk.subarray(from));
        from = chunk.length;
      } else {
        this.#hold(chunk.subarray(from, newline));
        out += this.#take('F', now);
        from = newline + 1;
      }
    }
    return out;
  }

  /** At the end of the stream: an unfinished line becomes a part. */
  end(now: Date): string {
    return this.#heldBytes === 0 ? '' : this.#take('P', now);
  }

  #hold(bytes: Buffer): void {
    if (bytes.length === 0) return;
    // A copy: the reader may use its buffer again.
    this.#held.push(Buffer.from(bytes));
    this.#heldBytes += bytes.length;
  }

  #take(tag: 'F' | 'P', now: Date): string {
    const text = Buffer.concat(this.#held).toString('utf8');
    this.#held = [];
    this.#heldBytes = 0;
    return `${now.toISOString()} ${this.#stream} ${tag} ${text}\n`;
  }
}

/** The last place at or before `index` where a UTF-8 character begins; not before `least`. */
function characterStart(bytes: Buffer, index: number, least: number): number {
  let at = index;
  while (at > least && ((bytes[at] ?? 0) & 0xc0) === 0x80) at--;
  // Nothing but continuation bytes: not UTF-8, cut anywhere.
  return at === least ? index : at;
}

export interface CriLine {
  readonly time: string;
  readonly stream: LogStream;
  /** False for a part: the next line goes on. */
  readonly full: boolean;
  readonly text: string;
}

/** One line without its newline; undefined when it is no CRI line. */
export function parseCriLine(line: string): CriLine | undefined {
  const match = /^(\S+) (stdout|stderr) ([FP]) ([\s\S]*)$/.exec(line);
  if (match === null) return undefined;
  const [, time, stream, tag, text] = match as unknown as [string, string, LogStream, string, string];
  return { time, stream, full: tag === 'F', text };
}
