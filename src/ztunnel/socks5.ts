// The server's half of a SOCKS5 negotiation (RFC 1928): bytes in, replies and the wanted destination out. Unauthenticated
// CONNECT only, as in the field (ztunnel.md §6.9). Whom the name stands for, and connecting, are the caller's matter.

import { type Port, parsePort } from '#net/host-port.ts';
import { type IpAddress, ipFromBytes } from '#net/ip.ts';

export const SUCCEEDED = 0;
export const GENERAL_FAILURE = 1;
export const HOST_UNREACHABLE = 4;
export const COMMAND_NOT_SUPPORTED = 7;

export type SocksTarget =
  | { readonly kind: 'ip'; readonly ip: IpAddress; readonly port: Port }
  | { readonly kind: 'host'; readonly host: string; readonly port: Port };

export type SocksStep =
  | { readonly kind: 'more' }
  /** The methods were read; this is the choice, and the request comes next. */
  | { readonly kind: 'reply'; readonly bytes: Buffer }
  /** To be answered with `socksReply`; `rest` came behind the request and belongs to the connection. */
  | { readonly kind: 'request'; readonly target: SocksTarget; readonly rest: Buffer }
  /** The client breaks the protocol or wants what there is not. */
  | { readonly kind: 'refused'; readonly bytes: Buffer; readonly reason: string };

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NO_ACCEPTABLE_METHOD = 0xff;
const CONNECT = 1;
const IPV4 = 1;
const DOMAIN = 3;
const IPV6 = 4;
const MORE: SocksStep = { kind: 'more' };

/** RFC 1928 §6. We have no address that would mean anything to the client. */
export function socksReply(code: number): Buffer {
  return Buffer.of(VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0);
}

/** Holds at most one greeting or request: 262 bytes. */
export class SocksNegotiation {
  #held: Buffer = Buffer.alloc(0);
  #isGreeted = false;

  /** To be called with nothing again after a `reply`, for what came behind it. */
  push(chunk: Uint8Array): SocksStep {
    this.#held = Buffer.concat([this.#held, chunk]);
    return this.#isGreeted ? this.#request() : this.#greeting();
  }

  /** VER, NMETHODS, METHODS (§3). */
  #greeting(): SocksStep {
    const [version, count] = this.#held;
    if (version === undefined) return MORE;
    if (version !== VERSION) return refused(COMMAND_NOT_SUPPORTED, `version ${version} is not SOCKS5`);
    if (count === undefined || this.#held.length < 2 + count) return MORE;
    const methods = this.#held.subarray(2, 2 + count);
    if (!methods.includes(NO_AUTHENTICATION))
      return {
        kind: 'refused',
        bytes: Buffer.of(VERSION, NO_ACCEPTABLE_METHOD),
        reason: 'the client wants to authenticate; only unauthenticated use is served',
      };
    this.#held = this.#held.subarray(2 + count);
    this.#isGreeted = true;
    return { kind: 'reply', bytes: Buffer.of(VERSION, NO_AUTHENTICATION) };
  }

  /** VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT (§4). */
  #request(): SocksStep {
    const bytes = this.#held;
    const [version, command, , type, first] = bytes;
    if (version !== undefined && version !== VERSION)
      return refused(COMMAND_NOT_SUPPORTED, `version ${version} is not SOCKS5`);
    if (command !== undefined && command !== CONNECT)
      return refused(COMMAND_NOT_SUPPORTED, `command ${command} is not served, only CONNECT (1)`);
    if (type === undefined || first === undefined) return MORE;
    const start = type === DOMAIN ? 5 : 4;
    const length = type === IPV4 ? 4 : type === IPV6 ? 16 : type === DOMAIN ? first : undefined;
    if (length === undefined) return refused(COMMAND_NOT_SUPPORTED, `address type ${type} is unknown`);
    const end = start + length;
    if (bytes.length < end + 2) return MORE;
    const address = bytes.subarray(start, end);
    const port = parsePort(bytes.readUInt16BE(end));
    if (port === undefined) return refused(COMMAND_NOT_SUPPORTED, 'port 0 is none');
    const rest = bytes.subarray(end + 2);
    if (type !== DOMAIN)
      return { kind: 'request', target: { kind: 'ip', ip: ipFromBytes(address), port }, rest };
    const host = address.toString('latin1').replace(/\.$/, '').toLowerCase();
    // A name goes into a DNS question: labels of visible characters, 1 to 63 long.
    if (!/^(?!.*\.\.)[!-\-/-~][!-~]{0,252}$/.test(host) || host.split('.').some((label) => label.length > 63))
      return refused(COMMAND_NOT_SUPPORTED, 'the name is none that could be looked up');
    return { kind: 'request', target: { kind: 'host', host, port }, rest };
  }
}

function refused(code: number, reason: string): SocksStep {
  return { kind: 'refused', bytes: socksReply(code), reason };
}
