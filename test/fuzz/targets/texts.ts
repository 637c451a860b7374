// Texts that others write: headers of a tunnel, names in certificates, addresses, selectors, log lines, files of settings.

import assert from 'node:assert/strict';
import { parseResolvConf } from '#dns/resolv-conf.ts';
import { JsonLinesDecoder } from '#k8s/json-lines.ts';
import { formatRequirements, parseSelector } from '#k8s/selectors.ts';
import { CriLineSplitter, parseCriLine } from '#local/kubelet/cri-line.ts';
import { formatSpiffeId, parseSpiffeId } from '#model/identity.ts';
import { formatCidr, parseCidr } from '#net/cidr.ts';
import { formatHostPort, parseHostPort } from '#net/host-port.ts';
import { formatLogFilter, type LogFilter, parseLogFilter } from '#telemetry/log-filter.ts';
import { spiffeIds, uriNames } from '#tls/peer.ts';
import { connectionIdOf, forwardedHost, parseBaggage } from '#ztunnel/headers.ts';
import { parseStaticState } from '#ztunnel/static/state.ts';
import { pickedBy, piecesOf, refusedOr, type Target, texts, tokens } from '../target.ts';

/** As header values arrive: every byte is a character. */
const latin1 = (input: Buffer): string => input.toString('latin1');

const baggage: Target = {
  name: 'baggage',
  seeds: texts(
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1',
    'cloud.region=eu,cloud.availability_zone=eu-a,k8s.pod.name=p',
  ),
  tokens: tokens(',', '=', 'k8s.job.name=', 'service.name=', '__proto__=', 'constructor='),
  run(input) {
    const found = parseBaggage(latin1(input));
    // Nothing but what a baggage has, and each of it a part of the header.
    for (const value of Object.values(found))
      assert.ok(typeof value === 'string' && value !== '' && !/[,=]/.test(value));
    assert.equal((found.workloadName === undefined) === (found.workloadType === undefined), true);
    return Object.keys(found).sort().join();
  },
};

const forwarded: Target = {
  name: 'forwarded',
  seeds: texts('for="10.244.1.3:41822";host=web.shop.svc.cluster.local', 'for="[::1]:80";host="a.b"'),
  tokens: tokens(';', '"', 'host=', 'for='),
  run(input) {
    const host = forwardedHost(latin1(input));
    if (host === undefined) return 'none';
    assert.ok(host !== '' && !host.includes(';'));
    return /^"|"$/.test(host) ? 'quoted' : 'host';
  },
};

const traceparent: Target = {
  name: 'traceparent',
  seeds: texts('00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'),
  run(input) {
    const id = connectionIdOf(latin1(input));
    assert.ok(id === undefined || /^[0-9a-f]{32}$/.test(id));
    return String(id !== undefined);
  },
};

const addresses: Target = {
  name: 'addresses',
  seeds: texts(
    '10.0.0.1:80',
    '[2001:db8::1]:443',
    'web.shop.svc.cluster.local:8080',
    '10.0.0.0/8',
    'fe80::/10',
    '*.a:1',
  ),
  tokens: tokens(':', '::', '.', '/', '[', ']', '%eth0', '::ffff:1.2.3.4'),
  run(input) {
    const text = String(input);
    const authority = parseHostPort(text);
    if (authority !== undefined) {
      const again = formatHostPort(authority.kind === 'ip' ? authority.ip : authority.host, authority.port);
      assert.deepEqual(parseHostPort(again), authority);
      return authority.kind;
    }
    const range = parseCidr(text);
    if (range === undefined) return 'refused';
    assert.deepEqual(parseCidr(formatCidr(range)), range);
    return range.address.includes(':') ? 'range of v6' : 'range of v4';
  },
};

const names: Target = {
  name: 'certificate-names',
  seeds: texts(
    'URI:spiffe://cluster.local/ns/shop/sa/web, DNS:web.shop',
    'URI:"spiffe://a/ns/b/sa/c, URI:spiffe://x/ns/y/sa/z", IP Address:10.0.0.1',
  ),
  tokens: tokens(', ', 'URI:', '"', '\\', '\\u0000', '/ns/', '/sa/'),
  run(input) {
    const text = String(input);
    const uris = uriNames(text);
    for (const id of spiffeIds(text)) assert.equal(formatSpiffeId(parseSpiffeId(id)!), id);
    return `${Math.min(uris.length, 5)} ${spiffeIds(text).length > 0}`;
  },
};

const resolvConf: Target = {
  name: 'resolv-conf',
  seeds: texts(
    '# ours\nnameserver 10.96.0.10\nnameserver fd00::a # v6\nsearch a.b c\noptions ndots:5 timeout:2 attempts:3 rotate\n',
  ),
  tokens: tokens('nameserver ', 'options ', 'timeout:', 'attempts:', '\n', '#', ';', '\r', ' '),
  run(input) {
    const { servers, timeoutMs, attempts, rotate } = parseResolvConf(String(input));
    assert.ok(servers.length <= 3);
    assert.ok(timeoutMs >= 1000 && timeoutMs <= 30_000 && attempts >= 1 && attempts <= 5);
    return `${servers.length} ${timeoutMs} ${attempts} ${rotate}`;
  },
};

const DEFAULT_FILTER: LogFilter = { level: 'info', scopes: new Map() };
const logFilter: Target = {
  name: 'log-filter',
  seeds: texts('access=debug,info', 'ztunnel::proxy=off,proxy::inbound=trace,warn'),
  tokens: tokens(',', '=', '::', 'debug', 'off'),
  run(input) {
    const filter = parseLogFilter(String(input), DEFAULT_FILTER);
    if (filter === undefined) return 'refused';
    // One prefix is taken off each time.
    if (String(input).includes('ztunnel::ztunnel::')) return 'prefixes';
    assert.deepEqual(parseLogFilter(formatLogFilter(filter), DEFAULT_FILTER), filter);
    return `${filter.level} ${Math.min(filter.scopes.size, 4)}`;
  },
};

const selectors: Target = {
  name: 'selectors',
  seeds: texts('app=web,tier!=db,env in (a,b),zone notin (c),!old,new,size>3,size<9', 'a.b/c==d'),
  tokens: tokens(',', '=', '!=', ' in (', ' notin (', ')', '!', '>', '<'),
  run: (input) =>
    refusedOr(
      ['CONFIG_INVALID'],
      () => parseSelector(String(input)),
      (requirements) => {
        assert.deepEqual(parseSelector(formatRequirements(requirements)), requirements);
        return `read ${[...new Set(requirements.map(({ operator }) => operator))].sort()}`;
      },
    ),
};

const jsonLines: Target = {
  name: 'json-lines',
  seeds: texts('{"type":"ADDED","object":{"metadata":{"name":"ä"}}}\n[1,null]\n"x"\n'),
  tokens: tokens('\n', '{', '}', '"', '\\u', '[', '1e999'),
  run(input) {
    const read = (length: number): unknown => {
      const decoder = new JsonLinesDecoder(4096);
      try {
        return [...piecesOf(input, length)].flatMap((piece) => decoder.push(piece));
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String(error));
        return 'refused';
      }
    };
    const whole = read(input.length || 1);
    assert.deepEqual(read(1 + pickedBy(input, 40)), whole);
    return Array.isArray(whole) ? `read ${Math.min(whole.length, 4)}` : 'refused';
  },
};

const criLines: Target = {
  name: 'cri-lines',
  seeds: texts('a line\nanother ä\n\nunfinished'),
  tokens: tokens('\n', '\r\n', '\0'),
  run(input) {
    const now = new Date(0);
    const splitter = new CriLineSplitter('stdout');
    let out = '';
    for (const piece of piecesOf(input, 1 + pickedBy(input, 5000))) out += splitter.push(piece, now);
    out += splitter.end(now);
    let text = '';
    let parts = 0;
    for (const line of out.split('\n').slice(0, -1)) {
      const read = parseCriLine(line);
      assert.ok(read !== undefined, JSON.stringify(line.slice(0, 100)));
      text += read.text;
      if (!read.full) parts++;
      else text += '\n';
    }
    if (input.equals(Buffer.from(String(input)))) assert.equal(text, String(input));
    return `${Math.min(parts, 3)} parts`;
  },
};

const LOCAL_CONFIG = `workloads:
- workload: {uid: cluster1//v1/Pod/shop/web, name: web, namespace: shop, workloadIps: [10.0.0.1, "fd00::1"], protocol: HBONE, node: n1}
  services: {shop/web.shop.svc.cluster.local: {80: 8080}}
services:
- {name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [/10.96.0.1], ports: {80: 8080}, subjectAltNames: []}
policies:
- name: deny
  namespace: shop
  scope: Namespace
  action: Deny
  rules: [[[{principals: [!Exact a, !Prefix b], destinationPorts: [80]}]]]
`;
const localConfig: Target = {
  name: 'local-config',
  // From whoever starts the program, and read by a library that takes 7 KB for each character of some.
  maxBytes: 1024,
  seeds: texts(LOCAL_CONFIG),
  tokens: tokens('&a ', '*a', '- ', ': ', '\n  ', '{', '[', '<<: ', '!Exact ', 'null', '? '),
  run: (input) =>
    refusedOr(
      ['CONFIG_INVALID'],
      () => parseStaticState(String(input), 'f'),
      ({ addresses, policies }) => `read ${Math.min(addresses.size, 3)} ${policies.size}`,
    ),
};

export const TEXT_TARGETS: readonly Target[] = [
  baggage,
  forwarded,
  traceparent,
  addresses,
  names,
  resolvConf,
  logFilter,
  selectors,
  jsonLines,
  criLines,
  localConfig,
];
