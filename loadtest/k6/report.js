// What every script here reports: the numbers as JSON where SUMMARY_JSON says, and a few lines of text.
// Nothing is fetched from elsewhere, so the scripts also run without a network.

const UNITS = { 'p(50)': 'ms', 'p(95)': 'ms', 'p(99)': 'ms', avg: 'ms', max: 'ms' };

function line(name, metric) {
  const values = Object.entries(metric.values)
    .map(([key, value]) => `${key}=${value.toFixed(2)}${metric.contains === 'time' ? UNITS[key] || '' : ''}`)
    .join(' ');
  const thresholds = Object.entries(metric.thresholds || {});
  const broken = thresholds.filter(([, result]) => !result.ok).map(([rule]) => rule);
  const verdict = thresholds.length === 0 ? '    ' : broken.length === 0 ? ' ok ' : 'FAIL';
  return `${verdict} ${name}: ${values}${broken.length ? `  broken: ${broken.join(', ')}` : ''}`;
}

export function summarise(data) {
  const shown = Object.keys(data.metrics)
    .filter((name) => /^(http_req_duration|http_req_failed|http_reqs|checks|dropped_iterations)/.test(name))
    .sort();
  const text = shown.map((name) => line(name, data.metrics[name])).join('\n') + '\n';
  const out = { stdout: text };
  if (__ENV.SUMMARY_JSON) {
    out[__ENV.SUMMARY_JSON] = JSON.stringify(data, null, 2);
  }
  return out;
}
