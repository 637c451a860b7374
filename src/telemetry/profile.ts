// CPU and heap profiles on request (ztunnel.md §11.3). Loaded at the first request: a process that nobody profiles pays nothing.
// Taken by V8 through the inspector of this very process; no debugger port is opened.

import { Session } from 'node:inspector/promises';
import { encodePprof, type PprofNode } from './pprof.ts';

export interface Profiler {
  /** @throws Error when another capture is under way */
  cpu(options: { readonly seconds: number; readonly frequencyHz: number }): Promise<Uint8Array>;
  /** Undefined while sampling is off. */
  heap(): Promise<Uint8Array | undefined>;
  /** Sampling costs a few per cent; it starts and stops by request only. */
  setHeapSampling(active: boolean): Promise<void>;
  readonly isHeapSampling: boolean;
}

const HEAP_INTERVAL_BYTES = 64 * 1024;

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

interface HeapNode {
  readonly callFrame: CallFrame;
  readonly selfSize: number;
  readonly children: readonly HeapNode[];
}

export function createProfiler(): Profiler {
  const session = new Session();
  session.connect();
  let isCapturing = false;
  let isHeapSampling = false;
  return {
    async cpu({ seconds, frequencyHz }) {
      if (isCapturing) throw new Error('another CPU profile is under way');
      isCapturing = true;
      try {
        const interval = Math.round(1_000_000 / frequencyHz);
        await session.post('Profiler.enable');
        await session.post('Profiler.setSamplingInterval', { interval });
        await session.post('Profiler.start');
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        const { profile } = await session.post('Profiler.stop');
        await session.post('Profiler.disable');
        const byId = new Map<number, [count: number, nanos: number]>();
        profile.samples?.forEach((id, at) => {
          const seen = byId.get(id) ?? [0, 0];
          byId.set(id, [seen[0] + 1, seen[1] + Math.max(0, profile.timeDeltas?.[at] ?? 0) * 1000]);
        });
        const parents = new Map<number, number>();
        for (const { id, children = [] } of profile.nodes)
          for (const child of children) parents.set(child, id);
        return encodePprof({
          sampleTypes: [
            ['samples', 'count'],
            ['cpu', 'nanoseconds'],
          ],
          periodType: ['cpu', 'nanoseconds'],
          period: interval * 1000,
          durationNanos: (profile.endTime - profile.startTime) * 1000,
          nodes: profile.nodes.map(({ id, callFrame }) =>
            nodeOf(id, parents.get(id), callFrame, byId.get(id) ?? [0, 0]),
          ),
        });
      } finally {
        isCapturing = false;
      }
    },
    async heap() {
      if (!isHeapSampling) return undefined;
      const { profile } = await session.post('HeapProfiler.getSamplingProfile');
      const nodes: PprofNode[] = [];
      const waiting: [HeapNode, number | undefined][] = [[profile.head, undefined]];
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const [{ callFrame, selfSize, children }, parent] = next;
        const id = nodes.length + 1;
        nodes.push(nodeOf(id, parent, callFrame, [selfSize]));
        for (const child of children) waiting.push([child, id]);
      }
      return encodePprof({
        sampleTypes: [['inuse_space', 'bytes']],
        periodType: ['space', 'bytes'],
        period: HEAP_INTERVAL_BYTES,
        durationNanos: 0,
        nodes,
      });
    },
    async setHeapSampling(active) {
      if (active === isHeapSampling) return;
      if (active) await session.post('HeapProfiler.startSampling', { samplingInterval: HEAP_INTERVAL_BYTES });
      else await session.post('HeapProfiler.stopSampling');
      isHeapSampling = active;
    },
    get isHeapSampling() {
      return isHeapSampling;
    },
  };
}

function nodeOf(
  id: number,
  parent: number | undefined,
  { functionName, url, lineNumber }: CallFrame,
  values: readonly number[],
): PprofNode {
  return { id, parent, functionName: functionName || '(anonymous)', file: url, line: lineNumber + 1, values };
}
