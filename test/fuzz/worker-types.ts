// What the fuzzer's thread is given and what it gives back.

export interface Job {
  readonly target: string;
  readonly seed: number;
  readonly maxInputs: number;
  readonly maxMs: number;
  /** Tried alone, when there is one. */
  readonly input: Uint8Array | undefined;
  /** Two words, how many inputs have begun and the length of the present one, and its bytes. */
  readonly shared: SharedArrayBuffer;
}

export interface Report {
  readonly inputs: number;
  readonly kinds: number;
  readonly failure: { readonly what: string; readonly input: Uint8Array } | undefined;
}

/** More of an input is not kept; no target takes larger ones. */
export const SHARED_BYTES = 8 + (1 << 20);
