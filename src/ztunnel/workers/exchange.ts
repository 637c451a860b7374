// Two threads that tell and ask each other, over a message port. What one says arrives in order and is handled in order, so
// an answer also says that everything told before is done.

import type { Transferable } from 'node:worker_threads';
import type { ErrorCode } from '#base/error-codes.ts';
import { MeshError } from '#base/errors.ts';

/** Of `Worker` and `MessagePort` alike. */
export interface MessageEnd {
  postMessage(value: unknown, transfer?: readonly Transferable[]): void;
  on(event: 'message', handler: (value: unknown) => void): unknown;
}

type Questions<Q> = { [K in keyof Q]: { readonly ask: unknown; readonly answer: unknown } };

export interface Handlers<Told, Asked extends Questions<Asked>> {
  readonly told: { readonly [K in keyof Told]: (value: Told[K]) => void };
  readonly asked: {
    readonly [K in keyof Asked]: (value: Asked[K]['ask']) => Asked[K]['answer'] | Promise<Asked[K]['answer']>;
  };
}

type Message =
  | { readonly kind: 'tell'; readonly what: string; readonly value: unknown }
  | { readonly kind: 'ask'; readonly what: string; readonly value: unknown; readonly id: number }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failure'; readonly id: number; readonly code: ErrorCode; readonly message: string };

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: MeshError) => void;
}

/**
 * `Told` and `Asked` are what this end may say; the handlers are for what the other end says. A handler that throws ends its
 * thread: what it was told would not be in force there.
 */
export class Exchange<
  Told,
  Asked extends Questions<Asked>,
  ToldHere,
  AskedHere extends Questions<AskedHere>,
> {
  readonly #end: MessageEnd;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #failure: MeshError | undefined;

  constructor(end: MessageEnd, handlers: Handlers<ToldHere, AskedHere>) {
    this.#end = end;
    const told = handlers.told as Readonly<Record<string, (value: unknown) => void>>;
    const asked = handlers.asked as Readonly<Record<string, (value: unknown) => unknown>>;
    end.on('message', (value) => {
      // Of this program's own making, and of this very version.
      const message = value as Message;
      switch (message.kind) {
        case 'tell':
          told[message.what]!(message.value);
          break;
        case 'ask':
          this.#answer(message.id, asked[message.what]!(message.value));
          break;
        case 'answer':
          this.#settle(message.id, ({ resolve }) => resolve(message.value));
          break;
        case 'failure':
          this.#settle(message.id, ({ reject }) => reject(new MeshError(message.code, message.message)));
          break;
      }
    });
  }

  tell<K extends keyof Told & string>(what: K, value: Told[K], transfer?: readonly Transferable[]): void {
    this.#end.postMessage({ kind: 'tell', what, value } satisfies Message, transfer);
  }

  /** Rejects with the MeshError of the other end, or the one given to `fail`. */
  ask<K extends keyof Asked & string>(
    what: K,
    value: Asked[K]['ask'],
    transfer?: readonly Transferable[],
  ): Promise<Asked[K]['answer']> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#lastId += 1;
    const id = this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    this.#end.postMessage({ kind: 'ask', what, value, id } satisfies Message, transfer);
    return promise as Promise<Asked[K]['answer']>;
  }

  /** The other end is gone: nobody answers any more. */
  fail(error: MeshError): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #answer(id: number, found: unknown): void {
    const answer = (value: unknown): void =>
      this.#end.postMessage({ kind: 'answer', id, value } satisfies Message);
    if (!(found instanceof Promise)) {
      answer(found);
      return;
    }
    found.then(answer, (error: unknown) => {
      const { code, message } = MeshError.from(error, 'WORKER_FAILED', 'another thread');
      this.#end.postMessage({ kind: 'failure', id, code, message } satisfies Message);
    });
  }

  #settle(id: number, settle: (pending: Pending) => void): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending !== undefined) settle(pending);
  }
}
