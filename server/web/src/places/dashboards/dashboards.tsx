/** Comes later. */
import { Empty } from '../../components/notes';

/** See the module. */
export function DashboardsPlace() {
  return <main id="main"><Empty title="Not there yet" /></main>;
}
