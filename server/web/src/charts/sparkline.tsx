/** A course of time without axes: a line of SVG, its unfinished end dotted. */
import './sparkline.css';

interface Properties {
  values: readonly (number | null)[];
  color: string;
  /** Whether the last value is still growing. */
  isOpen: boolean;
  height: number;
  summary: string;
}

const WIDTH = 200;

/** The path through values from one place to another; nulls break it. */
function path(values: readonly (number | null)[], from: number, to: number, most: number, least: number, height: number): string {
  const span = most - least || 1;
  let text = '';
  let isDown = false;
  for (let at = from; at <= to; at += 1) {
    const value = values[at];
    if (value === null || value === undefined) {
      isDown = false;
      continue;
    }
    const x = values.length > 1 ? (at / (values.length - 1)) * WIDTH : WIDTH / 2;
    const y = 2 + (1 - (value - least) / span) * (height - 4);
    text += `${isDown ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    isDown = true;
  }
  return text;
}

/** See the module. */
export function Sparkline({ values, color, isOpen, height, summary }: Properties) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(0, ...known);
  const least = Math.min(0, ...known);
  const last = values.length - 1;
  const end = isOpen ? last - 1 : last;
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" height={height} role="img" aria-label={summary}>
      <path d={path(values, 0, end, most, least, height)} stroke={color} />
      {isOpen && last > 0 && <path d={path(values, last - 1, last, most, least, height)} stroke={color} stroke-dasharray="2 2" />}
    </svg>
  );
}
