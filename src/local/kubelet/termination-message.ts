// What a container leaves as its last words: a file of its own at terminationMessagePath, or the end of its log. Limits as a
// kubelet has them.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '#base/errors.ts';
import type { Container, Pod } from '#k8s/objects.ts';

const FILE_LIMIT_BYTES = 4096;
/** Of all containers of a pod together. */
const POD_LIMIT_BYTES = 12 * 1024;
export const LOG_LIMIT_LINES = 80;
export const LOG_LIMIT_BYTES = 2048;

/** In the container's directory: mounted into it at its terminationMessagePath. */
export const terminationFile = (dir: string): string => join(dir, 'termination-log');

/** The end of it, if it is long. */
export function readTerminationMessage(dir: string): string {
  const path = terminationFile(dir);
  try {
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      const buffer = Buffer.alloc(Math.min(size, FILE_LIMIT_BYTES));
      const length = readSync(fd, buffer, 0, buffer.length, Math.max(0, size - buffer.length));
      return buffer.toString('utf8', 0, length);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return `Error on reading termination log ${path}: ${reasonOf(error)}`;
  }
}

/** `logEnd` is asked only where the policy and the outcome make it the message. */
export function terminationMessage(
  pod: Pod,
  { terminationMessagePolicy }: Container,
  end: { readonly exitCode: number; readonly message: string },
  logEnd: () => string,
): string {
  const usesLog =
    terminationMessagePolicy === 'FallbackToLogsOnError' && end.exitCode !== 0 && end.message === '';
  const text = usesLog ? logEnd() : end.message;
  const containers = pod.spec.containers.length + (pod.spec.initContainers ?? []).length;
  const limit = Math.floor(POD_LIMIT_BYTES / containers);
  const bytes = Buffer.from(text);
  return bytes.length <= limit ? text : bytes.toString('utf8', 0, limit);
}
