/** The line of controls: table, range, granularity, comparison, zone and filters. */
import { useState } from 'preact/hooks';
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import { GRANULARITY_TITLES } from '../../format/time';
import { valueText } from '../../format/value';
import { granularityOf } from '../../state/plan';
import { BUCKETS_MAX, bucketsOf, GRANULARITIES, rangeSeconds } from '../../state/range';
import { navigate } from '../../state/route';
import { fieldTitle } from '../../state/schema';
import { tables } from '../../state/session';
import type { Comparison, Filter } from '../../state/view';
import { RangePicker } from './range-picker';
import { ValuePicker } from './value-picker';
import type { Explore } from './store';

interface Properties {
  explore: Explore;
}

function TablePicker({ explore }: Properties) {
  return (
    <Popover title="Table" label={<><strong>{explore.table.name}</strong><Icon name="down" /></>}>
      {(close) => tables.value?.map((table) => (
        <Item key={table.name} isChosen={table.name === explore.table.name} onPick={() => { close(); navigate(`/explore/${encodeURIComponent(table.name)}`); }}>
          {table.name}
          {table.description && <span class="item-note">{table.description}</span>}
        </Item>
      ))}
    </Popover>
  );
}

/** How often a value of time is asked for in a range, in words. */
function GranularityPicker({ explore }: Properties) {
  const view = explore.view.value;
  const { bounds } = explore.asked();
  const seconds = rangeSeconds(view.range, bounds, view.zone);
  const now = granularityOf(view, bounds);
  const title = (name: string): string => GRANULARITY_TITLES[name] ?? name;
  return (
    <Popover title="Granularity" label={<>by {title(now)}<Icon name="down" /></>}>
      {(close) => (
        <>
          <Item isChosen={view.granularity === null} onPick={() => { explore.dispatch({ do: 'granularity', granularity: null }); close(); }}>By the range’s length</Item>
          {GRANULARITIES.map(({ name }) => {
            const count = bucketsOf(seconds, name);
            const isTooFine = count > BUCKETS_MAX;
            return (
              <Item
                key={name}
                disabled={isTooFine}
                isChosen={view.granularity === name}
                onPick={() => { explore.dispatch({ do: 'granularity', granularity: name }); close(); }}
              >
                {title(name)}
                {isTooFine && <span class="item-note">{count.toLocaleString('en')} buckets: over 10,000</span>}
              </Item>
            );
          })}
        </>
      )}
    </Popover>
  );
}

const COMPARISONS: readonly { compare: Comparison | null; title: string; short: string }[] = [
  { compare: null, title: 'No comparison', short: 'no comparison' },
  { compare: { kind: 'previous' }, title: 'The period before', short: 'vs previous' },
  { compare: { kind: 'shift', period: 'P1D' }, title: 'The same a day before', short: 'vs a day before' },
  { compare: { kind: 'shift', period: 'P7D' }, title: 'The same a week before', short: 'vs a week before' },
  { compare: { kind: 'shift', period: 'P1M' }, title: 'The same a month before', short: 'vs a month before' },
  { compare: { kind: 'shift', period: 'P1Y' }, title: 'The same a year before', short: 'vs a year before' },
];

/** The words for a comparison. */
export function comparisonWords(compare: Comparison | null): string {
  const same = COMPARISONS.find((other) => JSON.stringify(other.compare) === JSON.stringify(compare));
  return same?.short ?? (compare?.kind === 'range' ? `vs ${compare.from} – ${compare.to}` : `vs ${compare?.kind === 'shift' ? compare.period : ''} before`);
}

/** What the range is compared with. */
export function ComparisonPicker({ explore }: Properties) {
  const { compare } = explore.view.value;
  return (
    <Popover title="Comparison" shortcut="c" label={<>{comparisonWords(compare)}<Icon name="down" /></>}>
      {(close) => COMPARISONS.map((choice) => (
        <Item
          key={choice.title}
          isChosen={JSON.stringify(choice.compare) === JSON.stringify(compare)}
          onPick={() => { explore.dispatch({ do: 'compare', compare: choice.compare }); close(); }}
        >
          {choice.title}
        </Item>
      ))}
    </Popover>
  );
}

const ZONES = ['UTC', ...Intl.supportedValuesOf('timeZone').filter((zone) => zone !== 'UTC')];
const ZONES_SHOWN = 60;

/** The zone in which days begin and times are read. */
export function ZonePicker({ explore }: Properties) {
  const [search, setSearch] = useState('');
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const words = search.toLowerCase().replace(/ /g, '_');
  const ordered = [...new Set([explore.view.value.zone, own, ...ZONES])];
  const found = ordered.filter((zone) => zone.toLowerCase().includes(words)).slice(0, ZONES_SHOWN);
  return (
    <Popover title="Time zone" label={<>{explore.view.value.zone}<Icon name="down" /></>}>
      {(close) => (
        <>
          <input class="field" type="search" placeholder="Search zones" aria-label="Search time zones" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
          {found.map((zone) => (
            <Item key={zone} isChosen={zone === explore.view.value.zone} onPick={() => { explore.dispatch({ do: 'zone', zone }); close(); }}>
              {zone}
              {zone === own && <span class="item-note">this browser’s</span>}
            </Item>
          ))}
        </>
      )}
    </Popover>
  );
}

const VALUES_NAMED = 2;

function filterWords(filter: Filter): string {
  const named = filter.values.slice(0, VALUES_NAMED).map((value) => valueText(value).text).join(', ');
  const more = filter.values.length - VALUES_NAMED;
  return `${filter.op === 'not' ? 'is not ' : ''}${named}${more > 0 ? ` and ${more} more` : ''}`;
}

/** A filter, to change and to remove. */
export function Pill({ explore, filter }: Properties & { filter: Filter }) {
  const title = fieldTitle(explore.table, filter.dim);
  return (
    <span class="pill">
      <Popover class="pill-text" title={`Filter: ${title} ${filterWords(filter)}`} label={<>{title}: {filterWords(filter)}</>}>
        {() => <ValuePicker explore={explore} dim={filter.dim} />}
      </Popover>
      <button type="button" class="pill-close" aria-label={`Remove filter ${title}`} title="Remove" onClick={() => explore.dispatch({ do: 'unfilter', dim: filter.dim })}>
        <Icon name="close" />
      </button>
    </span>
  );
}

/** Chooses a dimension, then its values. */
export function AddFilter({ explore }: Properties) {
  const [dim, setDim] = useState<string | null>(null);
  const [search, setSearch] = useState('');
  const found = explore.table.dimensions.filter((one) => one.title.toLowerCase().includes(search.toLowerCase()) || one.name.includes(search.toLowerCase()));
  return (
    <Popover shortcut="f" title="Add a filter" label={<><Icon name="plus" />Filter</>}>
      {() => (dim === null ? (
        <>
          <input class="field" type="search" placeholder="Search dimensions" aria-label="Search dimensions" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
          {found.map((one) => <Item key={one.name} onPick={() => setDim(one.name)}>{one.title}</Item>)}
        </>
      ) : (
        <>
          <button type="button" class="button small plain" onClick={() => setDim(null)}><Icon name="left" />All dimensions</button>
          <ValuePicker explore={explore} dim={dim} />
        </>
      ))}
    </Popover>
  );
}

/** See the module. */
export function Controls({ explore }: Properties) {
  const [isOpen, setOpen] = useState(false);
  const { filters } = explore.view.value;
  return (
    <div class="controls" role="toolbar" aria-label="What is shown">
      <TablePicker explore={explore} />
      <button type="button" class="button narrow-only" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <Icon name="filter" />{filters.length > 0 ? `Filters: ${filters.length}` : 'Options'}
      </button>
      <RangePicker explore={explore} />
      <div class={`other-controls${isOpen ? ' open' : ''}`}>
        <GranularityPicker explore={explore} />
        <ComparisonPicker explore={explore} />
        <ZonePicker explore={explore} />
        {filters.map((filter) => <Pill key={filter.dim} explore={explore} filter={filter} />)}
        <AddFilter explore={explore} />
      </div>
    </div>
  );
}
