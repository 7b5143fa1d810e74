/** Icons, drawn from their nodes. */
import { h } from 'preact';
import {
  ArrowDown, ArrowUp, Check, ChevronDown, ChevronLeft, ChevronRight, Clock, Copy, Download, Ellipsis, Eye, Filter as FilterIcon, Menu as MenuIcon, Moon, Pause, Play,
  Plus, RefreshCw, Search, Share2, Sun, Table2, Trash2, TriangleAlert, X, Maximize, Pencil, History, type IconNode,
} from 'lucide';

const ICONS = {
  'arrow-down': ArrowDown, 'arrow-up': ArrowUp, check: Check, down: ChevronDown, left: ChevronLeft, right: ChevronRight, clock: Clock, copy: Copy, download: Download, more: Ellipsis,
  eye: Eye, filter: FilterIcon, menu: MenuIcon, moon: Moon, pause: Pause, play: Play, plus: Plus, refresh: RefreshCw, search: Search, share: Share2, sun: Sun, table: Table2, trash: Trash2,
  warn: TriangleAlert, close: X, full: Maximize, edit: Pencil, history: History,
} satisfies { [name: string]: IconNode };

export type IconName = keyof typeof ICONS;

/** An icon; it says nothing to those who listen. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {ICONS[name].map(([tag, attributes]) => h(tag, attributes))}
    </svg>
  );
}
