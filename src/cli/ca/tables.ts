// `culvert ca` for people.

import { renderTable } from '../table.ts';
import type { Breakage, RehearsalResult } from './rehearsal.ts';
import type { AuthorityReport, Finding } from './report.ts';

export function reportText({ source, certificates, namespaces, proxies, findings }: AuthorityReport): string {
  const parts = [
    `The authority is ${source === 'self-signed' ? 'self-signed (Secret istio-system/istio-ca-secret)' : 'plugged in (Secret istio-system/cacerts)'}.\n`,
    renderTable(
      ['ROLE', 'NAME', 'KEY', 'SHA-256', 'ENDS', 'DAYS LEFT'],
      certificates.map(({ role, name, key, fingerprint, notAfter, daysLeft }) => [
        role,
        name,
        key,
        fingerprint.slice(0, 23),
        notAfter.slice(0, 10),
        String(daysLeft),
      ]),
      3,
    ),
    namespacesLine(namespaces),
  ];
  if (proxies.length > 0)
    parts.push(
      renderTable(
        ['PROXY', 'NODE', 'CERTIFICATES', 'SIGNED BY', 'FIRST END', 'ALL RENEWED BY', 'TRUSTS'],
        proxies.map(({ proxy, node, certificates, signedBy, firstEnd, renewedBy, trusts }) => [
          proxy,
          node,
          String(certificates),
          Object.keys(signedBy).join(', ') || '-',
          minutes(firstEnd),
          minutes(renewedBy),
          trusts.join(', ') || '-',
        ]),
        3,
      ),
    );
  parts.push(findings.length === 0 ? 'Nothing has to be done.\n' : findings.map(findingLine).join(''));
  return parts.join('\n');
}

function namespacesLine(namespaces: AuthorityReport['namespaces']): string {
  const current = namespaces.filter(({ state }) => state === 'current').length;
  return `${current} of ${namespaces.length} namespaces have these roots (ConfigMap istio-ca-root-cert).\n`;
}

const minutes = (time: string | undefined): string =>
  time === undefined ? '-' : `${time.slice(0, 16).replace('T', ' ')}Z`;
const findingLine = ({ level, message }: Finding): string => `${level}: ${message}\n`;

export function rehearsalText({ steps, renewedBy, notCopied, isSafe }: RehearsalResult): string {
  const parts = [
    renderTable(
      ['STEP', 'WHAT', 'SIGNS', 'TRUSTED', 'HANDSHAKES', 'BROKEN'],
      steps.map(({ step, title, signer, trusted, handshakes, broken }) => [
        String(step),
        title,
        signer,
        trusted.join(', '),
        String(handshakes),
        String(broken.length),
      ]),
      3,
    ),
  ];
  for (const { step, broken, tooEarly } of steps) {
    if (broken.length > 0) parts.push(`Step ${step} breaks:\n${broken.map(breakageLine).join('')}`);
    if (tooEarly.length > 0)
      parts.push(
        `Step ${step} must wait until all proxies have renewed after step ${step - 1}${step === 2 && renewedBy !== undefined ? ` (of the certificates held now the last is due by ${minutes(renewedBy)})` : ''}; before that it breaks:\n${tooEarly.map(breakageLine).join('')}`,
      );
  }
  if (notCopied.length > 0)
    parts.push(
      `Left out, as another authority signed them:\n${notCopied.map((text) => `  ${text}\n`).join('')}`,
    );
  parts.push(
    isSafe
      ? 'With these waits no handshake fails. The cluster was not changed.\n'
      : 'As planned, connections break. The cluster was not changed.\n',
  );
  return parts.join('\n');
}

const breakageLine = ({ who, reason }: Breakage): string => `  ${who}: ${reason}\n`;
