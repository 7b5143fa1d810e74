/** Tables with their rows, files, topics and rollups. */
import { useState } from 'preact/hooks';
import { Confirm } from '../../components/confirm';
import { ErrorNote } from '../../components/notes';
import { say } from '../../components/toast';
import { asApiError } from '../../api/errors';
import { bytesText, compact } from '../../format/number';
import { instantText } from '../../format/time';
import { catalogue, qualified, type CatalogueTable } from '../../state/catalogue';
import { who } from '../../state/session';
import { ask, FILES, number, PARTITIONS, ROLLUPS, text, VERBS, type Named } from './store';
import { useAsked } from './use-asked';

interface Facts {
  tables: CatalogueTable[];
  files: Named[];
  partitions: Named[];
  rollups: Named[];
}

async function facts(signal: AbortSignal): Promise<Facts> {
  const [tables, files, partitions, rollups] = await Promise.all([catalogue(signal), ask(FILES, signal), ask(PARTITIONS, signal), ask(ROLLUPS, signal)]);
  return { tables, files, partitions, rollups };
}

function isOf(row: Named, table: CatalogueTable): boolean {
  return text(row['table']) === table.name && text(row['schema']) === table.schema;
}

function filesOf(all: readonly Named[], table: CatalogueTable, kind: string): Named | undefined {
  return all.find((row) => text(row['table']) === `${table.schema}.${table.name}` && row['kind'] === kind);
}

function State({ partitions }: { partitions: readonly Named[] }) {
  const states = [...new Set(partitions.map((row) => text(row['state'])))];
  const isGood = states.every((state) => state === 'running' || state === 'finished');
  return <span class={`state ${isGood ? 'good' : 'warn'}`}>{states.join(', ') || 'no topic'}</span>;
}

function Coverage({ rows }: { rows: readonly Named[] }) {
  if (rows.length === 0) return <span class="muted">none</span>;
  const least = Math.min(...rows.map((row) => number(row['covered'])));
  const isFull = rows.every((row) => row['complete'] === true);
  return <span class={isFull ? '' : 'filling'}>{rows.length} {isFull ? 'whole' : `being filled, ${(least * 100).toFixed(0)}%`}</span>;
}

/** All tables, a line each. */
export function Tables() {
  const { found, error, again } = useAsked(facts);
  const [verb, setVerb] = useState<{ title: string; words: string; act: string; run: () => Promise<unknown> } | null>(null);
  const isAdmin = who.value?.admin === true;
  const run = (act: () => Promise<unknown>): void => {
    act().then(() => { say('Done'); again(); }).catch((failed: unknown) => say(asApiError(failed).message));
  };
  return (
    <>
      {error && <ErrorNote error={error} onRetry={again} />}
      {isAdmin && (
        <div class="verbs">
          <button type="button" class="button" onClick={() => setVerb({ title: 'Flush now?', words: 'What is in memory is written to files and committed. Queries go on.', act: 'Flush', run: VERBS.flush })}>Flush now</button>
          <button type="button" class="button" onClick={() => setVerb({ title: 'Do all maintenance now?', words: 'Small files are merged, old ones deleted, rollups filled. It takes processors and disk for a while.', act: 'Maintain', run: VERBS.maintain })}>Maintain</button>
        </div>
      )}
      <div class="tile scroll" tabIndex={0} role="region" aria-label="Tables">
        <table class="grid">
          <thead>
            <tr><th scope="col">Table</th><th scope="col">Ingest</th><th scope="col" class="num">Lag</th><th scope="col" class="num">Rows in files</th><th scope="col" class="num">Size</th><th scope="col" class="num">Files</th><th scope="col">Newest event in files</th><th scope="col">Rollups</th><th scope="col" class="num">Rejected</th><th scope="col"><span class="sr">Acts</span></th></tr>
          </thead>
          <tbody>
            {found?.tables.map((table) => {
              const partitions = found.partitions.filter((row) => isOf(row, table));
              const raw = filesOf(found.files, table, 'raw');
              const rejected = partitions.reduce((sum, row) => sum + number(row['rows_rejected']), 0);
              const isPaused = partitions.some((row) => row['state'] === 'paused');
              const name = qualified(table);
              return (
                <tr key={name}>
                  <th scope="row"><a href={`/data/tables/${encodeURIComponent(name)}`}>{name}</a> {table.kind === 'keyed' && <span class="muted">keyed</span>}</th>
                  <td><State partitions={partitions} /></td>
                  <td class="num">{partitions.length > 0 ? compact(partitions.reduce((sum, row) => sum + number(row['lag']), 0)) : ''}</td>
                  <td class="num">{compact(raw ? number(raw['rows']) : null)}</td>
                  <td class="num">{raw ? bytesText(number(raw['bytes'])) : ''}</td>
                  <td class="num">{text(raw?.['files'])}</td>
                  <td>{raw?.['newest'] ? instantText(text(raw['newest'])) : ''}</td>
                  <td><Coverage rows={found.rollups.filter((row) => isOf(row, table))} /></td>
                  <td class="num">{rejected > 0 ? <a href="/data/rejected">{rejected.toLocaleString('en')}</a> : '0'}</td>
                  <td>
                    {isAdmin && partitions.length > 0 && (isPaused ? (
                      <button type="button" class="button small" onClick={() => run(() => VERBS.resume(name))}>Resume</button>
                    ) : (
                      <button type="button" class="button small" onClick={() => setVerb({ title: `Pause ${name}?`, words: `Records of its topic wait in the log until somebody resumes ${name}. What is there stays served.`, act: 'Pause', run: () => VERBS.pause(name) })}>Pause</button>
                    ))}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
        {!found && !error && <p class="panel-note">Reading…</p>}
      </div>
      {verb && <Confirm title={verb.title} act={verb.act} onAct={() => run(verb.run)} onClose={() => setVerb(null)}>{verb.words}</Confirm>}
    </>
  );
}

/** One table: its columns, measures, rollups and partitions. */
export function OneTable({ name }: { name: string }) {
  const { found, error, again } = useAsked(facts);
  const table = found?.tables.find((one) => qualified(one) === name);
  if (error) return <ErrorNote error={error} onRetry={again} />;
  if (!found) return <p class="panel-note">Reading…</p>;
  if (!table) return <p class="panel-note">There is no table {name}, or your role may not see it.</p>;
  const rollups = found.rollups.filter((row) => isOf(row, table));
  const partitions = found.partitions.filter((row) => isOf(row, table));
  return (
    <div class="one-table">
      <div class="verbs">
        <h2>{name}</h2>
        {table.kind === 'events' && <a class="button" href={`/explore/${encodeURIComponent(name)}`}>Explore</a>}
        <a class="button" href={`/sql#q=${encodeURIComponent(`SELECT * FROM ${name} LIMIT 100`)}`}>Ask in SQL</a>
      </div>
      {table.description && <p class="muted">{table.description}</p>}
      <section class="tile scroll" aria-label="Columns" tabIndex={0} role="region">
        <table class="grid">
          <thead><tr><th scope="col">Column</th><th scope="col">Type</th><th scope="col">Title</th><th scope="col">Description</th></tr></thead>
          <tbody>
            {table.columns.map((column) => (
              <tr key={column.name}>
                <th scope="row">{column.name}{column.name === table.time && <span class="muted"> event time</span>}{column.name === table.key && <span class="muted"> key</span>}</th>
                <td>{column.type}</td><td>{column.title}</td><td>{column.description}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {table.measures.length > 0 && (
        <section class="tile scroll" aria-label="Measures" tabIndex={0} role="region">
          <table class="grid">
            <thead><tr><th scope="col">Measure</th><th scope="col">SQL</th><th scope="col">Title</th></tr></thead>
            <tbody>{table.measures.map((measure) => <tr key={measure.name}><th scope="row">{measure.name}{measure.approximate ? ' ≈' : ''}</th><td><code>{measure.sql}</code></td><td>{measure.title}</td></tr>)}</tbody>
          </table>
        </section>
      )}
      {rollups.length > 0 && (
        <section class="tile scroll" aria-label="Rollups" tabIndex={0} role="region">
          <table class="grid">
            <thead><tr><th scope="col">Rollup</th><th scope="col">By</th><th scope="col">Dimensions</th><th scope="col" class="num">Rows</th><th scope="col" class="num">Size</th><th scope="col">Coverage</th></tr></thead>
            <tbody>
              {rollups.map((row) => (
                <tr key={text(row['view'])}>
                  <th scope="row">{text(row['rollup'])}</th><td>{text(row['granularity'])}</td><td>{text(row['dimensions'])}</td>
                  <td class="num">{number(row['rows']).toLocaleString('en')}</td><td class="num">{bytesText(number(row['bytes']))}</td>
                  <td>{row['complete'] === true ? 'whole' : <><progress max={1} value={number(row['covered'])} aria-label="Filled" /> {(number(row['covered']) * 100).toFixed(0)}%</>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
      {partitions.length > 0 && (
        <section class="tile scroll" aria-label="Partitions" tabIndex={0} role="region">
          <table class="grid">
            <thead><tr><th scope="col">Topic</th><th scope="col" class="num">Partition</th><th scope="col">State</th><th scope="col" class="num">Lag</th><th scope="col" class="num">End</th><th scope="col" class="num">Committed</th><th scope="col" class="num">Rows</th><th scope="col" class="num">Filtered</th><th scope="col" class="num">Rejected</th></tr></thead>
            <tbody>
              {partitions.map((row) => (
                <tr key={`${text(row['topic'])}/${text(row['partition'])}`}>
                  <th scope="row">{text(row['topic'])}</th><td class="num">{text(row['partition'])}</td><td>{text(row['state'])}{row['error'] ? `: ${text(row['error'])}` : ''}</td>
                  {['lag', 'end_offset', 'committed_offset', 'rows_kept', 'rows_filtered', 'rows_rejected'].map((column) => <td key={column} class="num">{row[column] === null ? '–' : number(row[column]).toLocaleString('en')}</td>)}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </div>
  );
}
