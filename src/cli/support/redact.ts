// What must never leave a cluster in a bundle: private keys, tokens, passwords. Two lines of defence: objects lose the
// fields where secrets are known to be, and every text is searched for what looks like one.

import type { Container, KubeObject, Pod, PodSpec } from '#k8s/objects.ts';

const LEFT_OUT = '(left out)';
const SECRET_NAME = /token|secret|passw|credential|private|api_?key|auth/i;
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

const PRIVATE_KEY = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;
const JWT = /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g;
const BEARER = /\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{16,}/gi;
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]+:)[^\s/@]+@/gi;
/** Base64 of a text that begins with five dashes: PEM in a Secret, a kubeconfig, a config dump. */
const BASE64_PEM = /LS0tLS1[A-Za-z0-9+/]+={0,2}/g;

/** Removes what looks like a secret from any text. */
export function redactText(text: string): string {
  return text
    .replace(BASE64_PEM, (encoded) =>
      Buffer.from(encoded, 'base64').toString('latin1').includes('PRIVATE KEY') ? LEFT_OUT : encoded,
    )
    .replace(PRIVATE_KEY, LEFT_OUT)
    .replace(JWT, LEFT_OUT)
    .replace(BEARER, (_whole, scheme: string) => `${scheme} ${LEFT_OUT}`)
    .replace(URL_PASSWORD, `$1${LEFT_OUT}@`);
}

/** An object without the places where people put secrets: environment values, and copies of the object in annotations. */
export function redactObject<T extends KubeObject>(object: T): T {
  const copy = structuredClone(object) as T & {
    metadata: { managedFields?: unknown };
    spec?: PodSpec & { template?: { spec?: PodSpec } };
  };
  delete copy.metadata.managedFields;
  const { annotations } = copy.metadata;
  for (const name in annotations)
    if (name === LAST_APPLIED || SECRET_NAME.test(name)) annotations[name] = LEFT_OUT;
  for (const spec of [copy.spec, copy.spec?.template?.spec]) redactPodSpec(spec);
  return copy;
}

function redactPodSpec(spec: Partial<Pod['spec']> | undefined): void {
  const containers: readonly Container[] = [
    ...(Array.isArray(spec?.containers) ? spec.containers : []),
    ...(Array.isArray(spec?.initContainers) ? spec.initContainers : []),
  ];
  for (const container of containers) {
    for (const variable of container.env ?? [])
      if (variable.value !== undefined && SECRET_NAME.test(variable.name)) variable.value = LEFT_OUT;
    // `--password=…` and the like.
    for (const list of [container.command, container.args])
      for (const [index, word] of (list ?? []).entries()) {
        const flag = /^(--?[\w-]+=)/.exec(word)?.[1];
        if (list !== undefined && flag !== undefined && SECRET_NAME.test(flag))
          list[index] = `${flag}${LEFT_OUT}`;
      }
  }
}
