/** The head of every page: places, age of the data, theme, account. */
import { useEffect, useState } from 'preact/hooks';
import { durationText } from '../format/time';
import { parts, route } from '../state/route';
import { bounds, refreshBounds, tables, who } from '../state/session';
import { theme, toggleTheme } from '../state/settings';
import { signOut } from '../api/client';
import { Icon } from './icon';
import { Item, Popover } from './popover';
import './shell.css';

const PLACES = [
  { path: '/explore', title: 'Explore' },
  { path: '/dashboards', title: 'Dashboards' },
  { path: '/sql', title: 'SQL' },
  { path: '/data', title: 'Data' },
];

const FRESH_MS = 10_000;
const STALE_MS = 3_600_000;
const OLD_MS = 86_400_000;
const ASK_EVERY_MS = 10_000;

/** How old the newest event of the shown table is. */
function Age() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
      if (!document.hidden && Date.now() - bounds.peek().at > ASK_EVERY_MS) refreshBounds().catch(() => undefined);
    }, 2000);
    return () => clearInterval(timer);
  }, []);
  const [place, name] = parts(route.value.path);
  const shown = place === 'explore' && name ? name : tables.value?.[0]?.name;
  const fact = shown ? bounds.value.of.get(shown) : undefined;
  if (!shown || fact?.lagMs === null || fact?.lagMs === undefined || !fact.last) return null;
  const lag = fact.lagMs + (now - bounds.value.at);
  const day = fact.last.slice(0, 10);
  const ago = durationText(Math.max(1, Math.round(lag / 1000)));
  if (lag > OLD_MS) return <span class="age" title={`The newest event of ${shown} is of ${fact.last}`}>{shown}: data to {day}</span>;
  const state = lag <= FRESH_MS ? 'fresh' : lag > STALE_MS ? 'stale' : '';
  return (
    <span class={`age ${state}`} title={`The newest event of ${shown} is of ${fact.last}`}>
      {state === 'fresh' && <span class="dot" aria-hidden="true">● </span>}
      {state === 'stale' ? `${shown}: no event for ${ago}` : `${shown}: ${ago} ago`}
    </span>
  );
}

function Account() {
  const user = who.value?.user;
  if (!user) return null;
  const leave = async (): Promise<void> => {
    await signOut().catch(() => undefined);
    location.assign('/sign-in');
  };
  return (
    <Popover alignRight title="Account" class="button plain small" label={<>{user}<Icon name="down" /></>}>
      {() => (
        <>
          <p class="panel-note">{who.value?.roles.join(', ') || 'no roles'}{who.value?.admin ? ', administrator' : ''}</p>
          <Item onPick={() => void leave()}>Sign out</Item>
        </>
      )}
    </Popover>
  );
}

/** See the module. */
export function Shell() {
  const [place = 'explore'] = parts(route.value.path);
  const next = theme.value === 'dark' ? 'light' : 'dark';
  return (
    <header class="shell">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); const main = document.getElementById('main'); if (main) { main.tabIndex = -1; main.focus(); } }}>Skip to the content</a>
      <a class="brand" href="/explore">Otus</a>
      <nav aria-label="Places">
        {PLACES.map(({ path, title }) => (
          <a key={path} href={path} class="place" aria-current={path === `/${place}` ? 'page' : undefined}>{title}</a>
        ))}
      </nav>
      <span class="spacer" />
      <Age />
      <button type="button" class="button plain small" onClick={toggleTheme} title={`Show it ${next}`} aria-label={`Show it ${next}`}><Icon name={next === 'dark' ? 'moon' : 'sun'} /></button>
      <Account />
    </header>
  );
}
