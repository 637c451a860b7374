// The chained CNI plugin (cni.md A.6): asks the node's agent to enrol a new pod, and passes the primary network's
// result on. Fails closed: a pod whose enrolment is unknown does not start, except those the mesh itself needs.
//
// A process per pod, so it is kept small: node:net and nothing else (node:http alone would double its start-up time).

import net from 'node:net';
import { join } from 'node:path';
import { errnoOf, reasonOf } from '#base/errors.ts';
import { CHECK_PATH, PLUGIN_PATH, PLUGIN_SOCKET, STATUS_PATH } from './constants.ts';
import { type CniResultIp, formatPluginEvent } from './plugin-event.ts';

const SUPPORTED_VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const LATEST_VERSION = '1.1.0';
const DEFAULT_RUN_DIR = '/var/run/istio-cni';
const DEADLINE_MS = 10_000;
const ANSWER_LIMIT_BYTES = 64 * 1024;

/** The specification's error codes; from 100 on they are the plugin's own. */
const INCOMPATIBLE_VERSION = 1;
const INVALID_ENVIRONMENT = 4;
const DECODING_FAILURE = 6;
const TRY_AGAIN_LATER = 11;
const NOT_AVAILABLE = 50;
const POD_REFUSED = 100;

/** What the runtime sees: text for stdout and the exit code. */
export interface PluginOutcome {
  readonly stdout: string;
  readonly exitCode: 0 | 1;
}

export interface PluginDeps {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: string;
  /** Posts an event to the agent; replaced in tests. */
  readonly post?: typeof postToAgent;
}

interface PluginConfig {
  readonly cniVersion?: string;
  readonly prevResult?: Readonly<Record<string, unknown>>;
  readonly cni_agent_run_dir?: string;
  readonly pod_namespace?: string;
  readonly exclude_namespaces?: readonly string[];
}

class CniFailure extends Error {
  readonly code: number;
  readonly details: string;
  constructor(code: number, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** Never throws: whatever happens becomes the protocol's error object. */
export async function runPlugin(deps: PluginDeps): Promise<PluginOutcome> {
  let cniVersion = LATEST_VERSION;
  try {
    const command = deps.env.CNI_COMMAND ?? '';
    if (command === 'VERSION')
      return {
        stdout: line({ cniVersion: LATEST_VERSION, supportedVersions: SUPPORTED_VERSIONS }),
        exitCode: 0,
      };
    const config = parseConfig(deps.stdin);
    cniVersion = config.cniVersion ?? '0.3.1';
    if (!SUPPORTED_VERSIONS.includes(cniVersion)) {
      const asked = cniVersion;
      cniVersion = LATEST_VERSION;
      throw new CniFailure(
        INCOMPATIBLE_VERSION,
        `CNI version ${asked} is not supported`,
        `supported: ${SUPPORTED_VERSIONS.join(', ')}`,
      );
    }
    switch (command) {
      case 'ADD':
        return { stdout: line(await add(deps, config, cniVersion)), exitCode: 0 };
      case 'CHECK':
        await check(deps, config);
        return { stdout: '', exitCode: 0 };
      case 'STATUS':
        await status(deps, config);
        return { stdout: '', exitCode: 0 };
      // The rules end with the namespace, and the agent learns of the pod's end from the API server: nothing is left
      // over that a runtime's list of pods could tell better.
      case 'DEL':
      case 'GC':
        return { stdout: '', exitCode: 0 };
      default:
        throw new CniFailure(
          INVALID_ENVIRONMENT,
          `CNI_COMMAND is ${JSON.stringify(command)}`,
          'expected ADD, DEL, CHECK, GC, STATUS or VERSION',
        );
    }
  } catch (error) {
    const failure = error instanceof CniFailure ? error : new CniFailure(POD_REFUSED, reasonOf(error));
    const { code, message, details } = failure;
    return {
      stdout: line({
        cniVersion,
        code,
        msg: `culvert-cni: ${message}`,
        ...(details === '' ? {} : { details }),
      }),
      exitCode: 1,
    };
  }
}

async function add(deps: PluginDeps, config: PluginConfig, cniVersion: string): Promise<unknown> {
  const result = { ...(config.prevResult ?? { interfaces: [], ips: [] }), cniVersion };
  const pod = podOf(deps.env);
  // Not a Kubernetes pod: none of our business.
  if (pod === undefined || isExempt(pod, config)) return result;
  const answer = await ask(deps, config, PLUGIN_PATH, eventOf(deps, config, pod));
  switch (answer.kind) {
    case 'answered':
      if (answer.status === 200) return result;
      throw new CniFailure(
        POD_REFUSED,
        `pod ${pod.namespace}/${pod.name} could not join the mesh: ${answer.body.trim()}`,
      );
    case 'unreachable':
      throw new CniFailure(
        TRY_AGAIN_LATER,
        `the Culvert agent of this node does not answer, so pod ${pod.namespace}/${pod.name} waits for it`,
        `${socketOf(config)}: ${answer.reason}; look at the istio-cni-node pod of this node`,
      );
  }
}

/** The pod is as ADD left it (specification 0.4.0 and later). */
async function check(deps: PluginDeps, config: PluginConfig): Promise<void> {
  const pod = podOf(deps.env);
  if (pod === undefined || isExempt(pod, config)) return;
  const answer = await ask(deps, config, CHECK_PATH, eventOf(deps, config, pod));
  if (answer.kind === 'unreachable')
    throw new CniFailure(TRY_AGAIN_LATER, 'the Culvert agent of this node does not answer', answer.reason);
  if (answer.status !== 200) throw new CniFailure(POD_REFUSED, answer.body.trim());
}

/** Whether ADD could succeed now (specification 1.1.0). */
async function status(deps: PluginDeps, config: PluginConfig): Promise<void> {
  const answer = await ask(deps, config, STATUS_PATH, '');
  if (answer.kind === 'unreachable')
    throw new CniFailure(NOT_AVAILABLE, 'the Culvert agent of this node does not answer', answer.reason);
  if (answer.status !== 200) throw new CniFailure(NOT_AVAILABLE, answer.body.trim());
}

const socketOf = (config: PluginConfig): string =>
  join(config.cni_agent_run_dir ?? DEFAULT_RUN_DIR, PLUGIN_SOCKET);

const ask = (deps: PluginDeps, config: PluginConfig, path: string, body: string): Promise<AgentAnswer> =>
  (deps.post ?? postToAgent)(socketOf(config), path, body, DEADLINE_MS);

function eventOf(deps: PluginDeps, config: PluginConfig, pod: PodName): string {
  const netns = deps.env.CNI_NETNS ?? '';
  if (netns === '') throw new CniFailure(INVALID_ENVIRONMENT, 'CNI_NETNS is not set');
  const ips = Array.isArray(config.prevResult?.ips) ? (config.prevResult.ips as CniResultIp[]) : [];
  return formatPluginEvent({ netns, podName: pod.name, podNamespace: pod.namespace, podUid: pod.uid }, ips);
}

interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
}

/** From CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=…`. */
function podOf(env: PluginDeps['env']): PodName | undefined {
  const args = new Map<string, string>();
  for (const pair of (env.CNI_ARGS ?? '').split(';')) {
    const equals = pair.indexOf('=');
    if (equals > 0) args.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  const name = args.get('K8S_POD_NAME') ?? '';
  const namespace = args.get('K8S_POD_NAMESPACE') ?? '';
  if (name === '' || namespace === '') return undefined;
  return { name, namespace, uid: args.get('K8S_POD_UID') };
}

/**
 * The node's own mesh pods must start without the agent: they are the agent, or what it waits for. Decided before
 * anything else is asked (cni.md A.6.2 step 3).
 */
function isExempt(pod: PodName, config: PluginConfig): boolean {
  if (config.exclude_namespaces?.includes(pod.namespace) === true) return true;
  return (
    pod.namespace === config.pod_namespace &&
    (pod.name.startsWith('istio-cni-node-') || pod.name.startsWith('ztunnel-'))
  );
}

function parseConfig(text: string): PluginConfig {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new CniFailure(DECODING_FAILURE, 'the network configuration is no JSON', reasonOf(error));
  }
  if (typeof config !== 'object' || config === null)
    throw new CniFailure(DECODING_FAILURE, 'the network configuration is no JSON object');
  return config;
}

const line = (value: unknown): string => `${JSON.stringify(value)}\n`;

export type AgentAnswer =
  | { readonly kind: 'answered'; readonly status: number; readonly body: string }
  | { readonly kind: 'unreachable'; readonly reason: string };

/** One HTTP/1.1 exchange; the agent closes the connection after its answer. */
export function postToAgent(
  socketPath: string,
  path: string,
  body: string,
  deadlineMs: number,
): Promise<AgentAnswer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    const socket = net.connect(socketPath);
    const finish = (answer: AgentAnswer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(
      () => finish({ kind: 'unreachable', reason: `no answer within ${deadlineMs / 1000} s` }),
      deadlineMs,
    );
    socket.on('error', (error) => finish({ kind: 'unreachable', reason: errnoOf(error) ?? reasonOf(error) }));
    socket.on('data', (chunk: Buffer) => {
      lengthBytes += chunk.length;
      if (lengthBytes > ANSWER_LIMIT_BYTES) finish({ kind: 'unreachable', reason: 'its answer is too long' });
      else chunks.push(chunk);
    });
    socket.on('end', () => finish(parseAnswer(Buffer.concat(chunks).toString())));
    // Not half-closed: an HTTP server takes that for a client that gave up.
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: unix\r\ncontent-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    );
  });
}

/** Complete or not at all: an answer cut off before its end must not pass for a success. */
function parseAnswer(text: string): AgentAnswer {
  const match = /^HTTP\/1\.1 (\d{3}) [^\r]*\r\n([\s\S]*?)\r\n\r\n([\s\S]*)$/.exec(text);
  const length = /^content-length: *(\d+) *$/im.exec(match?.[2] ?? '')?.[1];
  const body = match?.[3] ?? '';
  if (match === null || length === undefined || Buffer.byteLength(body) !== Number(length))
    return { kind: 'unreachable', reason: 'its answer is incomplete' };
  return { kind: 'answered', status: Number(match[1]), body };
}
