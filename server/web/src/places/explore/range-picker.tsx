/** The range of time: presets, two ends, and a step to either side. */
import { useState } from 'preact/hooks';
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import { rangeText } from '../../format/time';
import { PRESETS, rangeTitle, shifted, wholeDays } from '../../state/range';
import type { Explore } from './store';

function Ends({ from, to, onApply }: { from: string; to: string; onApply: (from: string, to: string) => void }) {
  const padded = (text: string): string => (text.length === 10 ? `${text}T00:00` : text.slice(0, 16));
  const [ends, setEnds] = useState({ from: padded(from), to: padded(to) });
  const isWrong = !(ends.from < ends.to);
  const bare = (text: string): string => text.replace(/T00:00$/, '');
  return (
    <form class="ends" onSubmit={(event) => { event.preventDefault(); if (!isWrong) onApply(bare(ends.from), bare(ends.to)); }}>
      <label>From <input class="field" type="datetime-local" value={ends.from} onInput={(event) => setEnds({ ...ends, from: event.currentTarget.value })} /></label>
      <label>To, not with it <input class="field" type="datetime-local" value={ends.to} onInput={(event) => setEnds({ ...ends, to: event.currentTarget.value })} /></label>
      {isWrong && <p class="wrong" role="alert">The range ends before it begins.</p>}
      <button type="submit" class="button primary" disabled={isWrong}>Apply</button>
    </form>
  );
}

/** The ends of what is shown, as the server resolved them. */
export function resolved(explore: Explore): { from: string; to: string } | null {
  const shown = explore.shown.value;
  for (const name of ['series', 'chart', 'level', 'totals']) {
    const meta = shown?.branches.get(name)?.meta;
    if (meta?.from && meta.to && !(name === 'totals' && shown?.view.brush)) return { from: meta.from, to: meta.to };
  }
  const { bounds, view } = explore.asked();
  return view.range.kind === 'fixed' ? view.range : wholeDays(bounds, view.zone);
}

/** See the module. */
export function RangePicker({ explore }: { explore: Explore }) {
  const view = explore.view.value;
  const ends = resolved(explore);
  const title = rangeTitle(view.range);
  const words = ends ? rangeText(ends.from, ends.to) : '';
  const shift = (way: 1 | -1): void => {
    if (ends) explore.dispatch({ do: 'range', range: shifted(ends.from, ends.to, way) });
  };
  return (
    <div class="range" role="group" aria-label="Range of time">
      <button type="button" class="button step" onClick={() => shift(-1)} disabled={!ends} title="One range earlier ([)" aria-label="One range earlier"><Icon name="left" /></button>
      <Popover
        shortcut="t"
        title={`Range of time: ${title} ${words}`}
        label={<><span class="range-title">{title}{title && words ? ' · ' : ''}<span class="range-words">{words}</span></span><Icon name="down" /></>}
      >
        {(close) => (
          <div class="range-panel">
            <div>
              {PRESETS.map((preset) => (
                <Item
                  key={preset.title}
                  isChosen={preset.title === title}
                  onPick={() => { explore.dispatch({ do: 'range', range: preset.range }); close(); }}
                >
                  {preset.title}
                </Item>
              ))}
            </div>
            <div>
              <h3>Counted back from</h3>
              <Item isChosen={view.anchor === 'data'} onPick={() => { explore.dispatch({ do: 'range', range: view.range, anchor: 'data' }); close(); }}>The newest event</Item>
              <Item isChosen={view.anchor === 'now'} onPick={() => { explore.dispatch({ do: 'range', range: view.range, anchor: 'now' }); close(); }}>Now</Item>
              <h3>Between</h3>
              {ends && <Ends from={localOf(ends.from)} to={localOf(ends.to)} onApply={(from, to) => { explore.dispatch({ do: 'range', range: { kind: 'fixed', from, to } }); close(); }} />}
              <p class="panel-note">Read in {view.zone}.</p>
            </div>
          </div>
        )}
      </Popover>
      <button type="button" class="button step" onClick={() => shift(1)} disabled={!ends} title="One range later (])" aria-label="One range later"><Icon name="right" /></button>
    </div>
  );
}

function localOf(text: string): string {
  return text.slice(0, 16);
}
