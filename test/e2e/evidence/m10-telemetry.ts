import assert from 'node:assert/strict';
import { type Evidence, fetchInNode, fetchInZtunnel, ztunnelOn } from './evidence.ts';

export const evidence: Evidence = {
  id: 'M10',
  title: "ztunnel's metrics, readiness and config dump on the field's ports",
  async show(mesh, say) {
    const ip = (await ztunnelOn(mesh, 'n2')).status?.podIP;
    const metrics = await fetchInNode(mesh, 'n2', `http://${ip}:15020/metrics`);
    const line = metrics
      .split('\n')
      .find(
        (text) =>
          text.startsWith('istio_tcp_connections_opened_total{') &&
          text.includes('destination_workload="catalog"') &&
          text.includes('source_workload="web"') &&
          text.includes('connection_security_policy="mutual_tls"'),
      );
    assert.ok(line, `no counter for the catalog in:\n${metrics}`);
    assert.match(line, /reporter="destination"/);
    assert.match(line, /source_principal="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web"/);
    assert.ok(metrics.trimEnd().endsWith('# EOF'));
    say(line);
    assert.equal(await fetchInNode(mesh, 'n2', `http://${ip}:15021/healthz/ready`), 'ready\n');
    say('15021/healthz/ready: ready');
    const dump = JSON.parse(await fetchInZtunnel(mesh, 'n2', 'http://127.0.0.1:15000/config_dump')) as Record<
      string,
      unknown
    >;
    for (const key of [
      'certificates',
      'config',
      'policies',
      'services',
      'version',
      'workloadState',
      'workloads',
    ])
      assert.ok(key in dump, key);
    say(`15000/config_dump: ${Object.keys(dump).join(', ')}`);
  },
};
