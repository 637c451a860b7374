// `address:port` and `host:port`, as they stand in :authority, logs and configuration. IPv6 stands in brackets.

import { familyOf, type IpAddress, parseIp } from './ip.ts';

export type Port = number & { readonly __brand: 'Port' };

export interface SocketAddress {
  readonly ip: IpAddress;
  readonly port: Port;
}

/** Where the application wanted to go. Not interchangeable with where we connect to. */
export type OriginalDst = SocketAddress & { readonly __role?: 'original-dst' };
/** Where ztunnel opens its own TCP connection to. */
export type UpstreamAddr = SocketAddress & { readonly __role?: 'upstream' };

/** 1 to 65535, or undefined. */
export function parsePort(text: string | number): Port | undefined {
  const port = typeof text === 'number' ? text : /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isInteger(port) && port > 0 && port <= 65_535 ? (port as Port) : undefined;
}

export function formatSocketAddress(address: SocketAddress): string {
  return formatHostPort(address.ip, address.port);
}

export function formatHostPort(host: IpAddress | string, port: number): string {
  return host.includes(':') && familyOf(host as IpAddress) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

export type HostPort =
  | { readonly kind: 'ip'; readonly ip: IpAddress; readonly port: Port }
  | { readonly kind: 'host'; readonly host: string; readonly port: Port };

/** Parses `1.2.3.4:80`, `[::1]:80`, `name.example:80`. Undefined when the port is missing or the host is malformed. */
export function parseHostPort(text: string): HostPort | undefined {
  const bracketed = /^\[([^\]]+)\]:(\d{1,5})$/.exec(text);
  if (bracketed !== null) {
    const address = parseIp(bracketed[1]!);
    const port = parsePort(bracketed[2]!);
    return address !== undefined && port !== undefined ? { kind: 'ip', ip: address, port } : undefined;
  }
  const colon = text.lastIndexOf(':');
  if (colon <= 0 || text.indexOf(':') !== colon) return undefined;
  const host = text.slice(0, colon);
  const port = parsePort(text.slice(colon + 1));
  if (port === undefined) return undefined;
  const address = parseIp(host);
  if (address !== undefined) return { kind: 'ip', ip: address, port };
  return isHostName(host) ? { kind: 'host', host, port } : undefined;
}

/** RFC 1123 labels; a leading `*.` is allowed as in ServiceEntry hosts. */
export function isHostName(text: string): boolean {
  if (text.length === 0 || text.length > 253) return false;
  const name = text.startsWith('*.') ? text.slice(2) : text;
  return name.split('.').every((label) => /^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/.test(label));
}
