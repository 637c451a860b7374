// An emulated node: a keeper process that holds a network namespace and a root file system of its own, and the ways to run
// something there. Started once per machine; a new LOCAL adopts the keepers its predecessor left.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cp, lstat, mkdir, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import {
  BRIDGE,
  cableBatch,
  cableName,
  machineBatch,
  machineSettings,
  nodeBatch,
  nodeSettings,
} from './node-network.ts';
import { killProcessesBelow } from './node-power.ts';
import { KEEPER_READY, keepPathsFor, renderNodeRoot } from './node-root.ts';
import { type ClusterFamily, type NodePlan, nodeAddresses } from './plan.ts';
import { ensurePrimaryConfig } from './primary-network.ts';
import { identify, isAlive, type ProcessId } from './process-id.ts';
import { type Replacement, replacementPaths } from './replacements.ts';
import { type CommandOptions, type CommandResult, mustRun, runCommand, type Tools } from './tools.ts';

export interface EmulatedNode {
  readonly plan: NodePlan;
  readonly tools: Tools;
  readonly keeper: ProcessId;
  /** The node's `/`, as the machine sees it. */
  readonly rootPath: string;
  /** Path of the node's network namespace. */
  readonly netnsPath: string;
  /** Arguments of `nsenter` that lead into the node's file system and a network namespace (the node's own unless given). */
  enter(netnsPath?: string): string[];
  /** Runs a program in the node's mount and network namespace. */
  run(file: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  mustRun(
    file: string,
    args: readonly string[],
    options: CommandOptions & { readonly doing: string },
  ): Promise<string>;
  /** `nft -f -` in the node's network namespace. */
  nft(ruleset: string, doing: string): Promise<void>;
}

export interface NodeDeps {
  readonly tools: Tools;
  /**
   * Root device → name of the node that has it now. The kernel gives the number of a file system that is gone to the next
   * one: nobody may be killed for sitting on a number that a dead node once had.
   */
  readonly rootDevices: Map<number, string>;
}

export interface NodeOptions {
  readonly stateDir: string;
  readonly runDir: string;
  readonly root: string;
  readonly node: string;
  readonly replacements: readonly Replacement[];
  readonly ipFamily: ClusterFamily;
}

/** The bridge; returns false when an earlier LOCAL made it. */
export async function ensureMachineNetwork(tools: Tools, family: ClusterFamily): Promise<boolean> {
  const probe = await runCommand(tools.ip, ['-o', 'link', 'show', 'dev', BRIDGE]);
  if (probe.code === 0) return false;
  // Answers to pods pass through here only when LOCAL itself speaks to them; nothing is forwarded to the outside.
  await mustRun(tools.sh, ['-c', settingsScript(machineSettings(family))], {
    doing: 'setting up forwarding in the machine',
  });
  await mustRun(tools.ip, ['-batch', '-'], {
    input: machineBatch(family),
    doing: `making the bridge ${BRIDGE} (kernel module: bridge)`,
  });
  return true;
}

export async function ensureNode(
  deps: NodeDeps,
  plan: NodePlan,
  options: NodeOptions,
): Promise<EmulatedNode> {
  const stateFile = keeperFile(options, plan);
  const known = readKeeper(stateFile);
  if (known !== undefined && isAlive(known)) {
    deps.rootDevices.set(known.rootDevice, plan.name);
    return emulatedNode(deps, plan, known);
  }
  // What a keeper that was killed left running has no node any more.
  if (known !== undefined) await dismantleNode(deps, plan, options);

  const process = await startKeeper(deps, plan, options);
  const keeper: Keeper = { ...process, rootDevice: statSync(`/proc/${process.pid}/root`).dev, plan };
  deps.rootDevices.set(keeper.rootDevice, plan.name);
  const node = emulatedNode(deps, plan, keeper);
  await mustRun(deps.tools.ip, ['-batch', '-'], {
    input: cableBatch(plan, String(keeper.pid)),
    doing: `connecting node ${plan.name} (kernel module: veth)`,
  });
  await mustRun(
    deps.tools.nsenter,
    [
      `--net=${node.netnsPath}`,
      '--',
      deps.tools.sh,
      '-c',
      `${settingsScript(nodeSettings(plan))}\nexec ${deps.tools.ip} -batch -`,
    ],
    { input: nodeBatch(plan), doing: `setting up the network of node ${plan.name}` },
  );
  await fillEtc(node);
  writeFileSync(stateFile, JSON.stringify(keeper), { mode: 0o600 });
  return node;
}

/** The power failure: every process of the node ends at once, and with the last one its namespaces, mounts and pods. */
export async function dismantleNode(
  { tools, rootDevices }: NodeDeps,
  plan: NodePlan,
  options: Pick<NodeOptions, 'runDir'>,
): Promise<void> {
  const stateFile = keeperFile(options, plan);
  const keeper = readKeeper(stateFile);
  if (keeper !== undefined && (rootDevices.get(keeper.rootDevice) ?? plan.name) === plan.name) {
    await killProcessesBelow(keeper.rootDevice);
    rootDevices.delete(keeper.rootDevice);
  }
  // Gone with the node's end of it, unless a process outside still holds the namespace.
  await runCommand(tools.ip, ['link', 'del', cableName(plan)]);
  rmSync(stateFile, { force: true });
}

/** Takes away what a former LOCAL left of nodes that nobody wishes for any more. */
export async function dismantleOthers(
  deps: NodeDeps,
  options: Pick<NodeOptions, 'runDir'>,
  wished: ReadonlySet<string>,
): Promise<void> {
  const dir = join(options.runDir, 'nodes');
  for (const file of await readdir(dir)) {
    const keeper = file.endsWith('.json') ? readKeeper(join(dir, file)) : undefined;
    if (keeper !== undefined && !wished.has(keeper.plan.name))
      await dismantleNode(deps, keeper.plan, options);
  }
}

/** The process that holds a node, and the device of its root file system, by which its other processes are known. */
interface Keeper extends ProcessId {
  readonly rootDevice: number;
  readonly plan: NodePlan;
}

const keeperFile = ({ runDir }: Pick<NodeOptions, 'runDir'>, plan: NodePlan): string =>
  join(runDir, 'nodes', `${plan.name}.json`);

function readKeeper(path: string): Keeper | undefined {
  if (!existsSync(path)) return undefined;
  return JSON.parse(readFileSync(path, 'utf8')) as Keeper;
}

function settingsScript(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([path, value]) => `echo ${value} > /proc/sys/net/${path}`)
    .join('\n');
}

async function startKeeper({ tools }: NodeDeps, plan: NodePlan, options: NodeOptions): Promise<ProcessId> {
  const buildDir = join(options.runDir, 'nodes', `${plan.name}-root`);
  mkdirSync(buildDir, { recursive: true, mode: 0o700 });
  const keptDir = join(options.stateDir, 'nodes', plan.name);
  for (const part of ['net.d', 'bin', 'volumes'])
    mkdirSync(join(keptDir, part), { recursive: true, mode: 0o755 });
  ensurePrimaryConfig(join(keptDir, 'net.d'));
  const script = renderNodeRoot(tools, {
    buildDir,
    keptDir,
    keepPaths: keepPathsFor(options.root, options.node, replacementPaths(options.replacements)),
  });
  const child = spawn(
    tools.unshare,
    ['--net', '--mount', '--propagation', 'private', tools.sh, '-c', script, `node-${plan.name}`],
    { detached: true, cwd: '/', env: {}, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let stderr = '';
  await new Promise<void>((resolve, reject) => {
    let stdout = '';
    const failed = (why: string): void => {
      reject(
        new MeshError('LOCAL_MACHINE_FAILED', `cannot build the file system of node ${plan.name}: ${why}`),
      );
    };
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
      if (stdout.includes(KEEPER_READY)) resolve();
    });
    child.on('error', (error) => failed(error.message));
    child.on('exit', (code) => failed(stderr.trim() || `the keeper ended with code ${code}`));
  });
  child.removeAllListeners('exit');
  child.unref();
  const keeper = child.pid === undefined ? undefined : identify(child.pid);
  if (keeper === undefined)
    throw new MeshError('LOCAL_MACHINE_FAILED', `the keeper of node ${plan.name} is gone`);
  return keeper;
}

function emulatedNode({ tools }: NodeDeps, plan: NodePlan, keeper: ProcessId): EmulatedNode {
  const netnsPath = `/proc/${keeper.pid}/ns/net`;
  const enter = (podNetns = netnsPath): string[] => [
    `--mount=/proc/${keeper.pid}/ns/mnt`,
    `--net=${podNetns}`,
    '--',
  ];
  return {
    plan,
    tools,
    keeper,
    rootPath: `/proc/${keeper.pid}/root`,
    netnsPath,
    enter,
    run: (file, args, options) => runCommand(tools.nsenter, [...enter(), file, ...args], options),
    mustRun: (file, args, options) => mustRun(tools.nsenter, [...enter(), file, ...args], options),
    nft: async (ruleset, doing) => {
      await mustRun(tools.nsenter, [`--net=${netnsPath}`, '--', tools.nft, '-f', '-'], {
        input: ruleset,
        doing,
      });
    },
  };
}

/** Files that pods or the node have of their own; `mtab` would tell of the host's mounts. */
const OWN_ETC = new Set(['resolv.conf', 'hosts', 'hostname', 'mtab', 'cni']);

/** /etc of the node: links to the host's entries (bound at /host-etc), real files where containers get their own. */
async function fillEtc(node: EmulatedNode): Promise<void> {
  const etc = join(node.rootPath, 'etc');
  const hostEtc = join(node.rootPath, 'host-etc');
  await Promise.all(
    (await readdir(hostEtc)).map(async (name) => {
      if (OWN_ETC.has(name)) return;
      const source = join(hostEtc, name);
      const stat = await lstat(source);
      // A link is copied: relative ones mean the same at the same depth.
      await symlink(stat.isSymbolicLink() ? await readlink(source) : `/host-etc/${name}`, join(etc, name));
    }),
  );
  await writeFile(join(etc, 'hostname'), `${node.plan.name}\n`);
  await writeFile(
    join(etc, 'hosts'),
    `127.0.0.1\tlocalhost\n::1\tlocalhost\n${nodeAddresses(node.plan)
      .map((address) => `${address}\t${node.plan.name}\n`)
      .join('')}`,
  );
  await writeFile(join(etc, 'resolv.conf'), '');
  await symlink('/proc/self/mounts', join(etc, 'mtab'));
  await mkdir(join(etc, 'cni/net.d'), { recursive: true });
  // CNI plugins of the host (loopback, bridge, …) stay usable by chained configurations.
  const hostPlugins = '/opt/cni/bin';
  if (existsSync(hostPlugins)) await cp(hostPlugins, join(node.rootPath, 'opt/cni/bin'), { recursive: true });
}
