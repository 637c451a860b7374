// The state of the cluster: every object in memory, every change in SQLite before it is acknowledged, and the recent
// past as a ring from which watches resume. One process writes; nothing is awaited between reading and writing, so
// optimistic locking needs no locks. Knows keys and versions, not kinds.

import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { type Clock, systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { type ApiObject, deepFreeze } from './object.ts';

/** `group/plural`; the empty group is `core`. All objects of one resource share it. */
export type ResourceKey = string & { readonly __brand: 'ResourceKey' };

export const resourceKey = (group: string, plural: string): ResourceKey =>
  `${group === '' ? 'core' : group}/${plural}` as ResourceKey;

/** One version of one object: frozen, with its JSON text. */
export interface Stored {
  readonly rev: number;
  readonly object: ApiObject;
  readonly json: string;
}

export type ChangeType = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface Change {
  readonly rev: number;
  readonly type: ChangeType;
  readonly resource: ResourceKey;
  /** For DELETED: the last state, carrying the version of the deletion. */
  readonly stored: Stored;
  /** The state before; undefined for ADDED, and after a restart for the first change of an object in the log. */
  readonly previous: Stored | undefined;
  readonly atMs: number;
}

export interface StoreOptions {
  /** A file, or `:memory:` in tests. */
  readonly path: string;
  /** Changes kept for watches that resume. */
  readonly ringSize?: number;
  readonly ringAgeMs?: number;
  readonly clock?: Clock;
}

const CHANGE_TYPES: readonly ChangeType[] = ['ADDED', 'MODIFIED', 'DELETED'];
const LAYOUT_VERSION = '1';

export class Store {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #ringSize: number;
  readonly #ringAgeMs: number;
  readonly #state = new Map<ResourceKey, Map<string, Stored>>();
  readonly #listeners = new Map<ResourceKey, Set<(change: Change) => void>>();
  #ring: Change[] = [];
  /** Changes up to and including this version are forgotten. */
  #compactedRev = 0;
  #rev = 0;
  #closed = false;
  readonly #insertRev: StatementSync;
  readonly #putCur: StatementSync;
  readonly #deleteCur: StatementSync;

  constructor(options: StoreOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#ringSize = options.ringSize ?? 10_000;
    this.#ringAgeMs = options.ringAgeMs ?? 600_000;
    this.#db = open(options.path);
    this.#insertRev = this.#db.prepare('INSERT INTO rev(rev, key, type, body) VALUES (?, ?, ?, ?)');
    this.#putCur = this.#db.prepare('INSERT OR REPLACE INTO cur(key, rev, body) VALUES (?, ?, ?)');
    this.#deleteCur = this.#db.prepare('DELETE FROM cur WHERE key = ?');
    this.#load();
  }

  /** The version of the newest change; 1 at least, because 0 means "any" to clients. */
  get rev(): number {
    return Math.max(1, this.#rev);
  }

  get compactedRev(): number {
    return this.#compactedRev;
  }

  get(resource: ResourceKey, namespace: string | undefined, name: string): Stored | undefined {
    return this.#state.get(resource)?.get(localKey(namespace, name));
  }

  /** In the order of namespace and name. */
  list(resource: ResourceKey, namespace?: string): Stored[] {
    const objects = this.#state.get(resource);
    if (objects === undefined) return [];
    return inOrder(objects, namespace);
  }

  /** As `list`, at a former moment; `expired` when the changes since then are not all known. */
  listAt(resource: ResourceKey, namespace: string | undefined, rev: number): Stored[] | 'expired' {
    if (rev < this.#compactedRev) return 'expired';
    const objects = new Map(this.#state.get(resource));
    for (let index = this.#ring.length - 1; index >= 0; index--) {
      const change = this.#ring[index]!;
      if (change.rev <= rev) break;
      if (change.resource !== resource) continue;
      const key = keyOf(change.stored.object);
      if (change.type === 'ADDED') objects.delete(key);
      // The first logged change of an object after a restart does not say what was there before.
      else if (change.previous === undefined) return 'expired';
      else objects.set(key, change.previous);
    }
    return inOrder(objects, namespace);
  }

  /** Creates or replaces. The object gets its version, is frozen and belongs to the store from here on. */
  put(resource: ResourceKey, object: ApiObject): Stored {
    const key = keyOf(object);
    const previous = this.#state.get(resource)?.get(key);
    const stored = this.#record(
      resource,
      key,
      previous === undefined ? 'ADDED' : 'MODIFIED',
      object,
      previous,
    );
    return stored;
  }

  /** Removes; answers the last state with the version of the deletion. */
  remove(resource: ResourceKey, namespace: string | undefined, name: string): Stored | undefined {
    const key = localKey(namespace, name);
    const previous = this.#state.get(resource)?.get(key);
    if (previous === undefined) return undefined;
    return this.#record(resource, key, 'DELETED', { ...previous.object }, previous);
  }

  /** Calls the listener in the same tick as the change; it must not throw. Returns the way to stop. */
  subscribe(resource: ResourceKey, listener: (change: Change) => void): () => void {
    const listeners = this.#listeners.get(resource) ?? new Set();
    this.#listeners.set(resource, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Every change after the version, oldest first, or why that cannot be said. */
  since(resource: ResourceKey, rev: number): readonly Change[] | 'expired' | 'future' {
    if (rev > this.rev) return 'future';
    if (rev < this.#compactedRev) return 'expired';
    return this.#ring.filter((change) => change.rev > rev && change.resource === resource);
  }

  /** Forgets what is older than the ring holds. Called each minute by the server. */
  compact(): void {
    const oldestMs = this.#clock.now() - this.#ringAgeMs;
    let drop = this.#ring.findIndex((change) => change.atMs >= oldestMs);
    if (drop < 0) drop = this.#ring.length;
    this.#dropFirst(drop);
    this.#db.prepare('DELETE FROM rev WHERE rev <= ?').run(this.#compactedRev);
    setMeta(this.#db, 'compacted', String(this.#compactedRev));
    this.#db.exec('PRAGMA wal_checkpoint(PASSIVE)');
  }

  /** A value made once and kept with the state (the cluster's uid). */
  metaOnce(name: string, make: () => string): string {
    const kept = getMeta(this.#db, name);
    if (kept !== undefined) return kept;
    const value = make();
    setMeta(this.#db, name, value);
    return value;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listeners.clear();
    this.#db.close();
  }

  #record(
    resource: ResourceKey,
    key: string,
    type: ChangeType,
    object: ApiObject,
    previous: Stored | undefined,
  ): Stored {
    const rev = this.rev + 1;
    object.metadata = { ...object.metadata, resourceVersion: String(rev) };
    const json = JSON.stringify(object);
    this.#write(`${resource}/${key}`, rev, type, json);
    const stored: Stored = { rev, object: deepFreeze(object), json };
    this.#rev = rev;
    this.#remember(resource, key, type, stored);
    const change: Change = { rev, type, resource, stored, previous, atMs: this.#clock.now() };
    this.#ring.push(change);
    // A quarter of slack, so that the ring is not moved at every write.
    if (this.#ring.length > this.#ringSize * 1.25) this.#dropFirst(this.#ring.length - this.#ringSize);
    for (const listener of [...(this.#listeners.get(resource) ?? [])]) listener(change);
    return stored;
  }

  /** Memory changes only after this has returned: a full disk leaves both sides as they were. */
  #write(key: string, rev: number, type: ChangeType, json: string): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      this.#insertRev.run(rev, key, CHANGE_TYPES.indexOf(type), json);
      if (type === 'DELETED') this.#deleteCur.run(key);
      else this.#putCur.run(key, rev, json);
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #remember(resource: ResourceKey, key: string, type: ChangeType, stored: Stored): void {
    const objects = this.#state.get(resource) ?? new Map<string, Stored>();
    this.#state.set(resource, objects);
    if (type === 'DELETED') objects.delete(key);
    else objects.set(key, stored);
  }

  #dropFirst(count: number): void {
    if (count <= 0) return;
    this.#compactedRev = this.#ring[count - 1]!.rev;
    this.#ring = this.#ring.slice(count);
  }

  #load(): void {
    for (const row of this.#db.prepare('SELECT key, rev, body FROM cur').iterate()) {
      const [resource, key] = splitKey(String(row.key));
      const json = String(row.body);
      this.#remember(resource, key, 'ADDED', { rev: Number(row.rev), object: parse(json), json });
    }
    // AUTOINCREMENT keeps the highest number ever given, even after every row has gone.
    const sequence = this.#db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'rev'").get();
    this.#rev = Number(sequence?.seq ?? 0);
    this.#compactedRev = Number(getMeta(this.#db, 'compacted') ?? 0);
    this.#loadRing();
  }

  #loadRing(): void {
    const last = new Map<string, Stored>();
    const atMs = this.#clock.now();
    const rows = this.#db.prepare('SELECT rev, key, type, body FROM rev WHERE rev > ? ORDER BY rev');
    for (const row of rows.iterate(this.#compactedRev)) {
      const fullKey = String(row.key);
      const json = String(row.body);
      const [resource] = splitKey(fullKey);
      const stored: Stored = { rev: Number(row.rev), object: parse(json), json };
      const type = CHANGE_TYPES[Number(row.type)] ?? 'MODIFIED';
      this.#ring.push({ rev: stored.rev, type, resource, stored, previous: last.get(fullKey), atMs });
      if (type === 'DELETED') last.delete(fullKey);
      else last.set(fullKey, stored);
    }
  }
}

function inOrder(objects: ReadonlyMap<string, Stored>, namespace: string | undefined): Stored[] {
  const prefix = namespace === undefined ? '' : `${namespace}/`;
  const keys = [...objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  return keys.map((key) => objects.get(key)!);
}

const localKey = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;
const keyOf = (object: ApiObject): string => localKey(object.metadata.namespace, object.metadata.name);
const parse = (json: string): ApiObject => deepFreeze(JSON.parse(json) as ApiObject);

/** `group/plural/namespace/name`, where the namespace may be empty. */
function splitKey(fullKey: string): [ResourceKey, string] {
  const second = fullKey.indexOf('/', fullKey.indexOf('/') + 1);
  return [fullKey.slice(0, second) as ResourceKey, fullKey.slice(second + 1)];
}

function open(path: string): DatabaseSync {
  try {
    const isFile = path !== ':memory:';
    if (isFile) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const db = new DatabaseSync(path);
    // Secrets are in it; the write-ahead log takes over the mode.
    if (isFile) chmodSync(path, 0o600);
    // NORMAL loses nothing that was acknowledged when a process is killed; only a power failure could, and it takes
    // every client along (decision in the design of the local mode).
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000');
    // The state in memory is the truth while this process lives: a second server on the same file must fail.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT');
    db.exec(`
      CREATE TABLE IF NOT EXISTS rev(rev INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, type INTEGER NOT NULL, body TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS cur(key TEXT PRIMARY KEY, rev INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;`);
    const layout = getMeta(db, 'layout');
    if (layout === undefined) setMeta(db, 'layout', LAYOUT_VERSION);
    else if (layout !== LAYOUT_VERSION)
      throw new Error(`its layout is version ${layout}, this program reads ${LAYOUT_VERSION}`);
    return db;
  } catch (error) {
    throw new MeshError(
      'LOCAL_MACHINE_FAILED',
      `the database ${path} cannot be opened: ${error instanceof Error ? error.message : String(error)}; remove the state directory to start afresh`,
      { cause: error },
    );
  }
}

function getMeta(db: DatabaseSync, name: string): string | undefined {
  const row = db.prepare('SELECT value FROM meta WHERE name = ?').get(name);
  return row === undefined ? undefined : String(row.value);
}

function setMeta(db: DatabaseSync, name: string, value: string): void {
  db.prepare('INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)').run(name, value);
}
