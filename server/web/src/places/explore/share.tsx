/** What is shown, to take along: link, pattern, SQL, CSV. */
import { edn } from '../../api/edn';
import { pattern } from '../../api/pattern';
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import { copy, save } from '../../components/save';
import { say } from '../../components/toast';
import { wallClock } from '../../format/time';
import { csv } from '../../format/value';
import { branches } from '../../state/plan';
import { resolved } from './range-picker';
import type { Explore, Shown } from './store';

/** The branch whose rows are the view's answer. */
function mainBranch(shown: Shown): string {
  return ['level', 'chart', 'series', 'totals'].find((name) => shown.branches.has(name)) ?? 'totals';
}

function table(shown: Shown): string {
  const answer = shown.branches.get(mainBranch(shown));
  const names = answer?.meta.columns.map((column) => column.name) ?? [];
  return csv(names, (answer?.rows ?? []).map((row) => names.map((name) => row[name])));
}

async function take(what: string, text: string): Promise<void> {
  say((await copy(text)) ? `${what} copied` : `${what} could not be copied`);
}

/** See the module. */
export function Share({ explore }: { explore: Explore }) {
  const shown = explore.shown.value;
  const sql = shown?.branches.get(shown ? mainBranch(shown) : '')?.meta.sql ?? null;
  const link = (): string => `${location.origin}${explore.address(explore.view.value)}`;
  const fixed = (): string => {
    const ends = resolved(explore);
    const view = explore.view.value;
    if (!ends) return link();
    return `${location.origin}${explore.address({ ...view, range: { kind: 'fixed', from: wallClock(ends.from), to: wallClock(ends.to) } })}`;
  };
  const wanted = () => pattern(branches(explore.asked()));
  return (
    <Popover alignRight shortcut="s" title="Share" label={<><Icon name="share" />Share<Icon name="down" /></>}>
      {(close) => {
        const then = (act: () => unknown) => (): void => { act(); close(); };
        return (
          <>
            <Item onPick={then(() => take('Link', link()))}>Copy link<span class="item-note">moves on with the data</span></Item>
            <Item onPick={then(() => take('Link', fixed()))}>Copy link with fixed times</Item>
            <Item onPick={then(() => take('Pattern', `{:pattern ${edn(wanted())}}`))}>Copy pattern as EDN</Item>
            <Item onPick={then(() => take('Pattern', JSON.stringify({ pattern: wanted() }, null, 1)))}>Copy pattern as JSON</Item>
            <Item disabled={sql === null} onPick={then(() => take('SQL', sql ?? ''))}>
              Copy SQL{sql === null && <span class="item-note">this server does not say it yet</span>}
            </Item>
            <Item disabled={!shown} onPick={then(() => shown && save(`${explore.table.name}.csv`, 'text/csv', table(shown)))}>Save as CSV</Item>
          </>
        );
      }}
    </Popover>
  );
}
