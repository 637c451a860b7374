// A connection on the SOCKS5 listener of a pod (ztunnel.md §6.9): negotiated, then served like any other outbound one. The
// client hears of success when there is one, not before (the field answers first and connects then).

import { MeshError } from '#base/errors.ts';
import { type ResolveOptions, resolveName } from '#dns/resolve.ts';
import type { HboneStream, StreamSink } from '#hbone/hbone.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import { type OutboundDeps, type OutboundOptions, serveOutbound } from './outbound.ts';
import {
  GENERAL_FAILURE,
  HOST_UNREACHABLE,
  SocksNegotiation,
  type SocksTarget,
  SUCCEEDED,
  socksReply,
} from './socks5.ts';

const NEGOTIATION_MS = 10_000;

/** Takes `opener` over; never rejects. */
export async function serveSocks5(
  deps: OutboundDeps,
  options: OutboundOptions & { readonly dns: ResolveOptions },
  opener: HboneStream,
  peer: SocketAddress,
): Promise<void> {
  const refuse = (error: unknown, reply?: Buffer): void => {
    if (reply !== undefined) opener.write(reply);
    opener.reset('NO_ERROR');
    const failure = MeshError.from(error, 'SOCKS_PROTOCOL', 'SOCKS5');
    deps.log.warn('a SOCKS5 client was refused', {
      client: `${peer.ip}:${peer.port}`,
      error: failure.message,
    });
  };
  let negotiated: Negotiated;
  try {
    negotiated = await negotiate(deps, opener);
  } catch (error) {
    return refuse(error);
  }
  const { target, rest } = negotiated;
  let ip: IpAddress;
  try {
    ip = await addressOf(deps, options.dns, target, peer);
  } catch (error) {
    return refuse(error, socksReply(HOST_UNREACHABLE));
  }
  const originalDst = { ip, port: target.port };
  await serveOutbound(deps, options, new AnsweredOpener(opener, rest), { peer, originalDst });
}

interface Negotiated {
  readonly target: SocksTarget;
  readonly rest: Buffer;
}

/** Answers the greeting; the request is left to be answered. Rejects with MeshError SOCKS_PROTOCOL; a reply was written then. */
function negotiate({ pod }: OutboundDeps, opener: HboneStream): Promise<Negotiated> {
  return new Promise((resolve, reject) => {
    const negotiation = new SocksNegotiation();
    const fail = (why: string): void => {
      cancel();
      reject(new MeshError('SOCKS_PROTOCOL', why));
    };
    const cancel = pod.scope.timeout(NEGOTIATION_MS, () =>
      fail(`the negotiation was not over in ${NEGOTIATION_MS / 1000} s`),
    );
    const read = (chunk: Uint8Array): void => {
      let step = negotiation.push(chunk);
      while (step.kind === 'reply') {
        opener.write(step.bytes);
        step = negotiation.push(new Uint8Array());
      }
      if (step.kind === 'more') return;
      opener.pause();
      if (step.kind === 'refused') {
        opener.write(step.bytes);
        fail(step.reason);
        return;
      }
      cancel();
      resolve({ target: step.target, rest: step.rest });
    };
    opener.attach({
      data: read,
      drain: () => {},
      end: () => fail('the client left during the negotiation'),
      close: () => fail('the client left during the negotiation'),
    });
  });
}

/** What the mesh knows of the name, else what the proxy's own servers say; of the client's family if there is one. */
async function addressOf(
  { store, local, random, resolve }: OutboundDeps,
  dns: ResolveOptions,
  target: SocksTarget,
  peer: SocketAddress,
): Promise<IpAddress> {
  if (target.kind === 'ip') return target.ip;
  const family = familyOf(peer.ip);
  const known = resolveName(store, await local.get(), { name: target.host, family }, random, dns);
  const addresses = known.kind === 'answer' ? known.answer.addresses : await resolve(target.host);
  const found = addresses.find((each) => familyOf(each) === family) ?? addresses[0];
  if (found === undefined) throw new MeshError('NO_ROUTE', `${target.host} has no IPv${family} address`);
  return found;
}

/** A client that waits for the answer to its request: attached is connected, reset before that is refused. */
class AnsweredOpener implements HboneStream {
  readonly #inner: HboneStream;
  readonly #rest: Buffer;
  #isAnswered = false;

  constructor(inner: HboneStream, rest: Buffer) {
    this.#inner = inner;
    this.#rest = rest;
  }

  attach(sink: StreamSink): void {
    this.#isAnswered = true;
    this.#inner.write(socksReply(SUCCEEDED));
    if (this.#rest.length > 0) sink.data(this.#rest);
    this.#inner.attach(sink);
  }
  write(chunk: Uint8Array): boolean {
    return this.#inner.write(chunk);
  }
  end(): void {
    this.#inner.end();
  }
  pause(): void {
    this.#inner.pause();
  }
  resume(): void {
    this.#inner.resume();
  }
  reset(code: Parameters<HboneStream['reset']>[0]): void {
    if (this.#isAnswered) {
      this.#inner.reset(code);
      return;
    }
    this.#isAnswered = true;
    this.#inner.write(socksReply(GENERAL_FAILURE));
    this.#inner.reset('NO_ERROR');
  }
}
