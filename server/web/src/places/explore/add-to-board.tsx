/** Puts what is shown on a dashboard. */
import { Icon } from '../../components/icon';
import { Popover } from '../../components/popover';
import { template, tileOf } from '../../state/board';
import { browserZone, defaultView } from '../../state/defaults';
import { fieldTitle } from '../../state/schema';
import { PickBoard } from '../dashboards/pick-board';
import type { Explore } from './store';

/** See the module. */
export function AddToBoard({ explore }: { explore: Explore }) {
  const { table } = explore;
  const { bounds } = explore.asked();
  const zone = browserZone();
  return (
    <Popover alignRight title="Add to dashboard" label={<><Icon name="plus" />Add to dashboard</>}>
      {(close) => (
        <PickBoard
          make={(y) => tileOf(table, explore.view.peek(), defaultView(table, bounds, zone), { x: 0, y })}
          fresh={() => ({ ...template(table, bounds, zone), title: `${fieldTitle(table, explore.view.peek().measures[0] ?? '')} of ${table.name}`, tiles: [] })}
          onDone={close}
        />
      )}
    </Popover>
  );
}
