// The end of a program that has nothing left to do. Not left to Node: docs/decisions/0021-ends.md.

/** With the exit code that is set; what was printed is written first, which takes a pipe as long as its reader. */
export function end(): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit()));
}
