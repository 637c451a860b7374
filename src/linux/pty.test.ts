import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { makePipe } from './pipe.ts';
import { openTerminal, setTerminalSize, TerminalStream } from './pty.ts';

const { O_RDWR, O_NOCTTY } = constants;

test('a terminal has the size it was given, and carries bytes both ways', async () => {
  const { masterFd, slavePath } = openTerminal();
  const terminal = new TerminalStream(masterFd);
  const slave = openSync(slavePath, O_RDWR | O_NOCTTY);
  try {
    setTerminalSize(masterFd, { rows: 33, columns: 101 });
    const size = execFileSync('stty', ['size'], { stdio: [slave, 'pipe', 'inherit'], encoding: 'utf8' });
    assert.equal(size, '33 101\n');
    writeSync(slave, 'out\n');
    const [chunk] = await new Promise<Buffer[]>((resolve) =>
      terminal.once('data', (...args) => resolve(args)),
    );
    assert.equal(chunk?.toString(), 'out\r\n');
    await new Promise<void>((resolve) => {
      terminal.write('typed\n', () => resolve());
    });
    const typed = Buffer.alloc(100);
    assert.equal(typed.toString('utf8', 0, readSync(slave, typed)), 'typed\n');
  } finally {
    closeSync(slave);
    terminal.destroy();
  }
});

test('a terminal ends when its last holder is gone', async () => {
  const { masterFd, slavePath } = openTerminal();
  const terminal = new TerminalStream(masterFd);
  try {
    terminal.resume();
    const end = new Promise((resolve) => terminal.on('end', resolve));
    closeSync(openSync(slavePath, O_RDWR | O_NOCTTY));
    await end;
  } finally {
    terminal.destroy();
  }
});

test('input that nobody reads waits outside the process, and closing lets it go', async () => {
  const { masterFd, slavePath } = openTerminal();
  const terminal = new TerminalStream(masterFd);
  const slave = openSync(slavePath, O_RDWR | O_NOCTTY);
  try {
    // Without line editing and echo the terminal keeps what it is given, up to its buffer.
    execFileSync('stty', ['raw', '-echo'], { stdio: [slave, 'inherit', 'inherit'] });
    let failed = false;
    terminal.on('error', () => {});
    terminal.write(Buffer.alloc(1_000_000, 'x'), (error) => {
      failed = error !== null && error !== undefined;
    });
    const closed = new Promise((resolve) => terminal.on('close', resolve));
    setImmediate(() => terminal.destroy());
    await closed;
    assert.equal(failed, true);
  } finally {
    closeSync(slave);
    terminal.destroy();
  }
});

test('a pipe carries what is written into it', () => {
  const { readFd, writeFd } = makePipe();
  try {
    writeSync(writeFd, 'through');
    const bytes = Buffer.alloc(20);
    assert.equal(bytes.toString('utf8', 0, readSync(readFd, bytes)), 'through');
  } finally {
    closeSync(readFd);
    closeSync(writeFd);
  }
});
