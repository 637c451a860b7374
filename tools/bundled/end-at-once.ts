// Part of every bundle: lets a process end that has said so.
//
// Node joins V8's threads when it exits. With `--optimize-for-size` a compiler's thread that meets a full heap asks the main
// thread for a collection, and waits; the main thread waits for it in turn: the process never ends
// (docs/decisions/0021-ends.md). Without the flag the thread lets the heap grow; whoever waits already is let on by a collection.

process.on('exit', () => {
  // Loaded here: no program is to carry it until then.
  process.getBuiltinModule('node:v8').setFlagsFromString('--no-optimize-for-size');
  globalThis.gc?.();
});
