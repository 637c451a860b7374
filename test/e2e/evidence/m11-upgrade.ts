import assert from 'node:assert/strict';
import { PODS } from '#k8s/objects.ts';
import { until } from '../harness.ts';
import { type Evidence, fetchInNode, logOf, scriptPod, ztunnelOn } from './evidence.ts';

const PORT = 9100;
const NEW_EVERY_MS = 10;
/** What ztunnel's pod gives connections after SIGTERM: 30 s of grace less 5 (ztunnel.md §1.4). */
const DRAIN_PERIOD_MS = 25_000;

const ECHO = `require('node:net').createServer({allowHalfOpen:true},s=>{s.on('error',()=>{});s.pipe(s)}).listen(${PORT},()=>console.log('listening'))`;

/**
 * Holds one connection and opens a hundred new ones a second; each sends a word and expects it back. Told to stop over
 * HTTP, it answers with the outcomes when the last has come in.
 */
const client = (host: string): string => `
const net=require('node:net');const outcomes={};let running=0,stopping,heldMs=0,heldEnd=null;const begun=Date.now();
const count=o=>{outcomes[o]=(outcomes[o]??0)+1};
const held=net.connect(${PORT},'${host}');held.on('data',()=>{heldMs=Date.now()-begun});
held.on('error',e=>{heldEnd??=e.code});held.on('close',()=>{heldEnd??='closed'});
setInterval(()=>{if(heldEnd===null)held.write('held')},100);
const one=()=>{running++;let got='',said;const done=o=>{if(said)return;said=true;running--;count(o);s.destroy();if(stopping&&running===0)stopping()};
const s=net.connect({port:${PORT},host:'${host}',allowHalfOpen:true},()=>s.end('new'));s.setTimeout(15000,()=>done('no answer'));
s.on('data',d=>got+=d);s.on('end',()=>done(got==='new'?'ok':'cut short'));s.on('error',e=>done(e.code));s.on('close',()=>done('closed'))};
const timer=setInterval(one,${NEW_EVERY_MS});
require('node:http').createServer((_,r)=>{clearInterval(timer);const end=heldEnd;stopping=()=>{r.end(JSON.stringify({outcomes,heldMs,heldEnd:end}));stopping=undefined};if(running===0)stopping()}).listen(${PORT + 1},()=>console.log('begun'));
`;

interface Result {
  readonly outcomes: Readonly<Record<string, number>>;
  readonly heldMs: number;
  readonly heldEnd: string | null;
}

export const evidence: Evidence = {
  id: 'M11',
  title: 'every ztunnel replaced under load: the held connection and a hundred new ones a second survive',
  async show(mesh, say) {
    const [server, user] = ['m11-server', 'm11-client'];
    const started = async (name: string, word: string): Promise<string> => {
      await until(
        async () => (await logOf(mesh, 'shop', name).catch(() => '')).includes(word),
        `${name} to run`,
      );
      return (await mesh.client.get(PODS, name, 'shop')).status?.podIP ?? '';
    };
    try {
      await mesh.apply(scriptPod({ name: server, namespace: 'shop', node: 'n2', script: ECHO }));
      const serverIp = await started(server, 'listening');
      await mesh.apply(scriptPod({ name: user, namespace: 'shop', node: 'n1', script: client(serverIp) }));
      const clientIp = await started(user, 'begun');
      const before = await Promise.all(['n1', 'n2'].map((node) => ztunnelOn(mesh, node)));

      const beganMs = Date.now();
      await mesh.kubectl('rollout', 'restart', '-n', 'istio-system', 'daemonset/ztunnel');
      await mesh.kubectl('rollout', 'status', '-n', 'istio-system', 'daemonset/ztunnel', '--timeout=50s');
      const tookMs = Date.now() - beganMs;
      // Both old ones have closed their listeners by now, and wait for the held connection.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      const answer = await fetchInNode(mesh, 'n1', `http://${clientIp}:${PORT + 1}/`);
      const { outcomes, heldMs, heldEnd } = JSON.parse(answer) as Result;

      const after = await Promise.all(['n1', 'n2'].map((node) => ztunnelOn(mesh, node)));
      for (const [at, { metadata }] of after.entries())
        assert.notEqual(metadata.uid, before[at]?.metadata.uid);
      say(`both node proxies replaced in ${tookMs} ms`);
      assert.deepEqual(Object.keys(outcomes), ['ok'], JSON.stringify(outcomes));
      say(`new connections meanwhile, one every ${NEW_EVERY_MS} ms: ${JSON.stringify(outcomes)}`);
      // On a machine so slow that the roll-out outlasts the drain period, it may have been cut after that.
      assert.ok(heldEnd === null || heldMs >= DRAIN_PERIOD_MS, `held for ${heldMs} ms, then ${heldEnd}`);
      say(`the connection held since before: alive after ${heldMs} ms`);
    } finally {
      for (const name of [user, server])
        await mesh.client.delete(PODS, name, { namespace: 'shop', gracePeriodSeconds: 0 }).catch(() => {});
    }
    await until(async () => {
      const pods = { namespace: 'istio-system', labelSelector: 'app=ztunnel' };
      return (await mesh.client.list(PODS, pods)).items.length === 2;
    }, 'the old node proxies to end');
  },
};
