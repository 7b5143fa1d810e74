/** The operator's place: tables, topics, rejected records, queries. */
import { useState } from 'preact/hooks';
import { Empty, ErrorNote } from '../../components/notes';
import { bytesText } from '../../format/number';
import { instantText } from '../../format/time';
import { parts, route } from '../../state/route';
import { ask, bytes, number, PARTITIONS, QUERIES, REASONS, REJECTED, text, type Named } from './store';
import { OneTable, Tables } from './tables';
import { useAsked } from './use-asked';
import './data.css';
import '../explore/charts.css';

const TABS = [
  { path: '/data', title: 'Tables' },
  { path: '/data/topics', title: 'Topics' },
  { path: '/data/rejected', title: 'Rejected' },
  { path: '/data/queries', title: 'Queries' },
];

function Topics() {
  const { found, error, again } = useAsked((signal) => ask(PARTITIONS, signal));
  return (
    <>
      {error && <ErrorNote error={error} onRetry={again} />}
      <div class="tile scroll" tabIndex={0} role="region" aria-label="Topics">
        <table class="grid">
          <thead><tr><th scope="col">Topic</th><th scope="col" class="num">Partition</th><th scope="col">Table</th><th scope="col">State</th><th scope="col" class="num">Lag</th><th scope="col" class="num">End</th></tr></thead>
          <tbody>
            {found?.map((row) => (
              <tr key={`${text(row['topic'])}/${text(row['partition'])}/${text(row['table'])}`}>
                <th scope="row">{text(row['topic'])}</th><td class="num">{text(row['partition'])}</td><td>{text(row['table'])}</td>
                <td><span class={`state ${row['error'] ? 'warn' : 'good'}`}>{text(row['state'])}</span> {text(row['error'])}</td>
                <td class="num">{row['lag'] === null ? '–' : number(row['lag']).toLocaleString('en')}</td><td class="num">{number(row['end_offset']).toLocaleString('en')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

async function rejected(signal: AbortSignal): Promise<{ reasons: Named[]; records: Named[] }> {
  const [reasons, records] = await Promise.all([ask(REASONS, signal), ask(REJECTED, signal)]);
  return { reasons, records };
}

function Rejected() {
  const { found, error, again } = useAsked(rejected);
  const [open, setOpen] = useState<string | null>(null);
  if (error) return <ErrorNote error={error} onRetry={again} />;
  if (found?.reasons.length === 0) return <Empty title="Nothing was rejected"><p>Records that cannot be decoded would stand here, with their reason.</p></Empty>;
  return (
    <>
      <div class="tile scroll" tabIndex={0} role="region" aria-label="Reasons">
        <table class="grid">
          <thead><tr><th scope="col">Reason</th><th scope="col">Table</th><th scope="col" class="num">Records</th><th scope="col">First</th><th scope="col">Last</th></tr></thead>
          <tbody>
            {found?.reasons.map((row) => (
              <tr key={`${text(row['table'])} ${text(row['reason'])}`}><th scope="row" class="wrap">{text(row['reason'])}</th><td>{text(row['table'])}</td><td class="num">{number(row['records']).toLocaleString('en')}</td><td>{instantText(text(row['first']))}</td><td>{instantText(text(row['last']))}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
      <h2>The newest</h2>
      <div class="tile scroll" tabIndex={0} role="region" aria-label="Newest rejected records">
        <table class="grid">
          <thead><tr><th scope="col">Place</th><th scope="col">Time</th><th scope="col">Reason</th><th scope="col">Bytes</th></tr></thead>
          <tbody>
            {found?.records.map((row) => {
              const place = `${text(row['topic'])}/${text(row['partition'])}:${text(row['offset'])}`;
              const payload = row['payload'] === null ? `${text(row['payload_bytes'])} bytes, not kept` : bytes(row['payload']);
              return (
                <tr key={place}>
                  <th scope="row">{place}</th><td>{instantText(text(row['timestamp']))}</td><td>{text(row['reason'])}</td>
                  <td class={open === place ? 'wrap' : ''}><button type="button" class="mono payload" aria-expanded={open === place} onClick={() => setOpen(open === place ? null : place)}>{payload}</button></td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Queries() {
  const { found, error, again } = useAsked((signal) => ask(QUERIES, signal));
  return (
    <>
      {error && <ErrorNote error={error} onRetry={again} />}
      <div class="tile scroll" tabIndex={0} role="region" aria-label="Queries">
        <table class="grid">
          <thead><tr><th scope="col">Started (UTC)</th><th scope="col">User</th><th scope="col" class="num">ms</th><th scope="col" class="num">Rows</th><th scope="col" class="num">Read</th><th scope="col">Answered from</th><th scope="col">Query</th></tr></thead>
          <tbody>
            {found?.map((row, at) => (
              <tr key={at}>
                <td>{instantText(text(row['started_at']))}</td><td>{text(row['user'])}</td><td class="num">{(number(row['duration_us']) / 1000).toFixed(1)}</td>
                <td class="num">{number(row['rows']).toLocaleString('en')}</td><td class="num">{bytesText(number(row['bytes_read']))}</td>
                <td title={text(row['raw_reason'])}>{row['sqlstate'] ? <span class="state warn">error {text(row['sqlstate'])}</span> : row['cached'] === true ? 'kept answer' : text(row['rollup']) || 'raw rows'}</td>
                <td><code title={text(row['query'])}>{text(row['query']).slice(0, 200)}</code></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** See the module. */
export function DataPlace() {
  const [, section, name] = parts(route.value.path);
  return (
    <main id="main" class="data">
      <h1>Data</h1>
      <nav class="data-tabs" aria-label="Sections">
        {TABS.map(({ path, title }) => {
          const isHere = path === '/data' ? section === undefined || section === 'tables' : path === `/data/${section ?? ''}`;
          return <a key={path} href={path} class="place" aria-current={isHere ? 'page' : undefined}>{title}</a>;
        })}
      </nav>
      {section === 'tables' && name ? <OneTable key={name} name={name} /> : section === 'topics' ? <Topics /> : section === 'rejected' ? <Rejected /> : section === 'queries' ? <Queries /> : <Tables />}
    </main>
  );
}
