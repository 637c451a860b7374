// Is a peer's certificate revoked? Asked with every handshake, and again for every live session when the lists change
// (ztunnel.md §4.5): the whole chain, unknown means allowed, dates of lists do not matter. Reading lists is crl.ts's
// matter, where they come from crl-file.ts's.

import { createPublicKey, X509Certificate } from 'node:crypto';
import { MeshError } from '#base/errors.ts';
import { type CertificateFacts, readCertificateFacts } from './certificate-facts.ts';
import type { RevocationList } from './crl.ts';
import type { WorkloadSecret } from './secret.ts';

/** The field's word in metrics is CERT_REVOKED. */
export const REVOKED = 'CERTIFICATE_REVOKED';

/** Each may cost the check of a signature; real chains have two or three. */
const MAX_PRESENTED = 10;

interface Member extends CertificateFacts {
  readonly der: Uint8Array;
}

/** What a peer presented, and who may have signed it. */
export interface PeerChain {
  readonly presented: readonly Member[];
  readonly anchors: readonly CertificateFacts[];
  /** Version of the lists of the last verdict. */
  judgedUnder: number;
}

interface Tracked {
  readonly chain: PeerChain;
  readonly cut: (error: MeshError) => void;
}

export class Revocations {
  #lists: readonly RevocationList[] = [];
  #version = 0;
  readonly #live = new Set<Tracked>();
  readonly #anchorsOf = new WeakMap<WorkloadSecret, readonly CertificateFacts[]>();

  get listCount(): number {
    return this.#lists.length;
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /**
   * The chain that `leaf` came with, or why its owner may not come in. Every certificate the peer sent is looked at, also
   * one that TLS did not need: that way no second path can hide the revoked one.
   */
  admit(leaf: X509Certificate | undefined, own: WorkloadSecret): PeerChain | MeshError {
    try {
      const chain = { presented: membersOf(leaf), anchors: this.#anchors(own), judgedUnder: this.#version };
      return this.#judge(chain) ?? chain;
    } catch (error) {
      return MeshError.from(error, REVOKED, "the peer's certificate cannot be judged");
    }
  }

  /** Ends a session when new lists revoke its peer; returns how to stop, for when it is over. */
  track(chain: PeerChain, cut: (error: MeshError) => void): () => void {
    const tracked: Tracked = { chain, cut };
    this.#live.add(tracked);
    if (chain.judgedUnder !== this.#version) this.#judgeAgain(tracked);
    return () => this.#live.delete(tracked);
  }

  /** Replaces all lists, and cuts the sessions of those now revoked; returns how many. */
  replace(lists: readonly RevocationList[]): number {
    this.#lists = lists;
    this.#version += 1;
    let cut = 0;
    for (const tracked of [...this.#live]) if (this.#judgeAgain(tracked)) cut += 1;
    return cut;
  }

  #judgeAgain(tracked: Tracked): boolean {
    tracked.chain.judgedUnder = this.#version;
    const error = this.#judge(tracked.chain);
    if (error === undefined) return false;
    this.#live.delete(tracked);
    tracked.cut(error);
    return true;
  }

  #judge({ presented, anchors }: PeerChain): MeshError | undefined {
    if (this.#lists.length === 0) return undefined;
    for (const member of presented) {
      for (const list of this.#lists) {
        if (list.issuer !== member.issuer) continue;
        const error = judgeMember(member, list, [...anchors, ...presented]);
        if (error !== undefined) return error;
      }
    }
    return undefined;
  }

  /** Read once for each certificate of our own, not for each handshake. */
  #anchors(own: WorkloadSecret): readonly CertificateFacts[] {
    let anchors = this.#anchorsOf.get(own);
    if (anchors === undefined) {
      anchors = own.rootsPem.map((pem) => readCertificateFacts(new X509Certificate(pem).raw));
      this.#anchorsOf.set(own, anchors);
    }
    return anchors;
  }
}

function membersOf(leaf: X509Certificate | undefined): Member[] {
  const members: Member[] = [];
  // Of a peer's certificate, Node's `issuerCertificate` is simply the next one it sent.
  for (let at = leaf; at !== undefined; at = at.issuerCertificate) {
    if (members.length === MAX_PRESENTED)
      throw new MeshError(REVOKED, `the peer sent a chain of more than ${MAX_PRESENTED} certificates`);
    const der = at.raw;
    members.push({ ...readCertificateFacts(der), der });
  }
  return members;
}

function judgeMember(
  member: Member,
  list: RevocationList,
  authorities: readonly CertificateFacts[],
): MeshError | undefined {
  let isCandidate = false;
  for (const authority of authorities) {
    // Roots are renewed under one name with new keys; a list says by its key id whose it is.
    if (authority.subject !== member.issuer || !mayBeKeyOf(list, authority)) continue;
    isCandidate = true;
    if (!list.isSignedBy(authority.spki)) continue;
    return list.serials.has(member.serial) && isIssuedBy(member, authority) ? revoked(member) : undefined;
  }
  // The list of another authority of the same name says nothing of this one's certificates.
  if (!isCandidate) return undefined;
  return new MeshError(
    REVOKED,
    "the peer's certificate cannot be judged: the revocation list of its issuer has a wrong signature; replace the list",
  );
}

function mayBeKeyOf({ authorityKeyId }: RevocationList, { subjectKeyId }: CertificateFacts): boolean {
  return authorityKeyId === undefined || subjectKeyId === undefined || authorityKeyId === subjectKeyId;
}

/** Asked only for a serial that was found, so its cost does not matter. */
function isIssuedBy(member: Member, authority: CertificateFacts): boolean {
  const key = createPublicKey({ key: Buffer.from(authority.spki), format: 'der', type: 'spki' });
  return new X509Certificate(member.der).verify(key);
}

function revoked({ der, serial }: Member): MeshError {
  const { subject, subjectAltName } = new X509Certificate(der);
  const name = subjectAltName ?? (subject || 'without a name');
  return new MeshError(REVOKED, `the peer's certificate is revoked: serial ${serial}, ${name}`, {
    details: { serial },
  });
}
