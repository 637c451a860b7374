// One HTTP request to a port inside a pod that only the pod itself can reach (admin ports are bound to loopback).

import { request as httpRequest } from 'node:http';
import { MeshError } from '#base/errors.ts';
import { openPortForward, type PodPort } from './port-forward.ts';
import type { ApiEndpoint } from './rest-transport.ts';

const ANSWER_LIMIT_MS = 60_000;
const BODY_LIMIT_BYTES = 512 * 1024 * 1024;

export interface PodRequest extends PodPort {
  readonly path: string;
  readonly method?: 'GET' | 'POST';
}

/** Asks a pod; the body of a 2xx answer. @throws MeshError API_STATUS, API_UNREACHABLE */
export type FetchFromPod = (request: PodRequest) => Promise<string>;

export const podFetcher =
  (endpoint: ApiEndpoint): FetchFromPod =>
  async (wanted) => {
    const stream = await openPortForward(endpoint, wanted);
    const where = `http://${wanted.pod}:${wanted.port}${wanted.path}`;
    try {
      return await new Promise<string>((resolve, reject) => {
        const fail = (error: unknown): void =>
          reject(MeshError.from(error, 'API_UNREACHABLE', `no answer from ${where}`));
        stream.on('error', fail);
        const request = httpRequest(
          {
            createConnection: () => stream,
            method: wanted.method ?? 'GET',
            path: wanted.path,
            headers: { host: `localhost:${wanted.port}`, connection: 'close' },
            signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
          },
          (response) => {
            const chunks: Buffer[] = [];
            let sizeBytes = 0;
            response.on('data', (chunk: Buffer) => {
              sizeBytes += chunk.length;
              if (sizeBytes > BODY_LIMIT_BYTES) response.destroy(new Error('the answer is too large'));
              else chunks.push(chunk);
            });
            response.on('error', fail);
            response.on('end', () => {
              const body = Buffer.concat(chunks).toString('utf8');
              const status = response.statusCode ?? 0;
              if (status >= 200 && status < 300) resolve(body);
              else
                reject(
                  new MeshError('API_STATUS', `${where} answered ${status}: ${body.trim().slice(0, 300)}`, {
                    details: { status, reason: '' },
                  }),
                );
            });
          },
        );
        request.on('error', fail);
        request.end();
      });
    } finally {
      stream.destroy();
    }
  };
