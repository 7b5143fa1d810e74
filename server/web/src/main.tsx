/** The page of Otus: which place an address shows. */
import './styles/tokens.css';
import './styles/base.css';
import type { ComponentType } from 'preact';
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Empty, ErrorNote } from './components/notes';
import { KeysHelp, listenToKeys } from './components/keys-help';
import { Shell } from './components/shell';
import { Toast } from './components/toast';
import { ExplorePlace } from './places/explore/explore';
import { listen, navigate, parts, route } from './state/route';
import { begin, failure, needsSignIn, tables } from './state/session';
import { keep, kept } from './state/settings';

/** Places that come when they are first shown. */
const LATER: { readonly [place: string]: () => Promise<ComponentType> } = {
  sql: async () => (await import('./places/sql/sql')).SqlPlace,
  data: async () => (await import('./places/data/data')).DataPlace,
  dashboards: async () => (await import('./places/dashboards/dashboards')).DashboardsPlace,
  'sign-in': async () => (await import('./places/sign-in/sign-in')).SignInPlace,
};

function Later({ name }: { name: string }) {
  const [Place, setPlace] = useState<ComponentType | null>(null);
  const [isBroken, setBroken] = useState(false);
  useEffect(() => {
    setPlace(null);
    LATER[name]?.().then((found) => setPlace(() => found)).catch(() => setBroken(true));
  }, [name]);
  if (isBroken) return <main id="main"><Empty title="This part of the page did not come"><p>A new version may have been installed. Load the page again.</p></Empty></main>;
  return Place ? <Place /> : <main id="main" aria-busy="true" />;
}

function NoTables() {
  return (
    <main id="main">
      <Empty title="No table of events yet">
        <p>Tables are declared in the configuration. <code>otus infer FILE</code> writes such a section from a file of records.</p>
        <pre>{'[tables.plays]\ntopic = "plays"\ntime  = "time"\n\n[tables.plays.columns]\ntime = "timestamptz"\ngame = "text"\n\n[tables.plays.measures]\nplays = "count(*)"'}</pre>
      </Empty>
    </main>
  );
}

function Explore({ name }: { name: string | undefined }) {
  const all = tables.value;
  if (!all) return <main id="main" aria-busy="true" />;
  const last = kept('otus.table');
  const table = all.find((one) => one.name === name) ?? (name === undefined ? (all.find((one) => one.name === last) ?? all[0]) : undefined);
  useEffect(() => {
    if (!table) return;
    keep('otus.table', table.name);
    if (name === undefined) navigate(`/explore/${encodeURIComponent(table.name)}${location.hash}`, 'replace');
  }, [table, name]);
  if (all.length === 0) return <NoTables />;
  if (!table) {
    return (
      <main id="main">
        <Empty title={`There is no table ${name ?? ''}`}>
          <p>It may have been renamed, or your role may not see it.</p>
          <div class="acts">{all.map((one) => <a key={one.name} class="button" href={`/explore/${encodeURIComponent(one.name)}`}>{one.name}</a>)}</div>
        </Empty>
      </main>
    );
  }
  if (name === undefined) return <main id="main" aria-busy="true" />;
  return <ExplorePlace key={table.name} table={table} />;
}

/** The board that a server may have for its first page. */
const HOME = 'game-overview';

/** `/`: the home board if there is one, else Explore. */
function Home() {
  const isReady = tables.value !== null;
  useEffect(() => {
    if (!isReady) return;
    const find = async (): Promise<string> => {
      const { storage } = await import('./places/dashboards/storage');
      const place = await storage();
      return place.isShared && (await place.read(HOME)) ? `/dashboards/${HOME}` : '/explore';
    };
    find().catch(() => '/explore').then((path) => navigate(path, 'replace')).catch(() => undefined);
  }, [isReady]);
  return <main id="main" aria-busy="true" />;
}

function Page() {
  const [place = 'explore', name] = parts(route.value.path);
  const error = failure.value;
  useEffect(() => {
    document.title = place === 'explore' ? `${name ?? 'Explore'} · Otus` : `${place.charAt(0).toUpperCase()}${place.slice(1)} · Otus`;
  }, [place, name]);
  if (needsSignIn.value || place === 'sign-in') return <Later name="sign-in" />;
  if (error) return <main id="main"><ErrorNote error={error} onRetry={() => void begin()} /></main>;
  if (route.value.path === '/') return <Home />;
  if (place === 'explore') return <Explore name={name} />;
  if (LATER[place]) return <Later name={place} />;
  return <main id="main"><Empty title="There is no such page"><p><a href="/explore">Go to Explore</a></p></Empty></main>;
}

listen();
listenToKeys();
void begin();
const root = document.getElementById('app');
if (root) render(<><Shell /><Page /><Toast /><KeysHelp /></>, root);
