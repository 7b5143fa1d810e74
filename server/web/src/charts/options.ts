/** Options of charts, from answers: pure, so that they can be compared with what they should be. */
import type { EChartsCoreOption } from 'echarts/core';
import type { Palette } from './theme';

/** One line, area or row of bars. Values beside buckets; null where there is none. */
export interface Series {
  name: string;
  color: string;
  values: readonly (number | null)[];
}

/** A chart over buckets or over values of a dimension. */
export interface Plot {
  kind: 'line' | 'area' | 'bar';
  labels: readonly string[];
  ticks: ReadonlyMap<number, string>;
  series: readonly Series[];
  /** What the first series is compared with. */
  previous: readonly (number | null)[] | null;
  partial: readonly boolean[];
  stacked: boolean;
  format: (value: number) => string;
}

const GRID = { left: 48, right: 12, top: 10, bottom: 22 };
/** Where a chart's plane lies within it. */
export const PLANE = GRID;

/** The type of labels: that of the page. */
const TEXT = { fontFamily: "Inter, system-ui, sans-serif" };

const AREA_OPACITY = 0.1;

function axes(plot: Plot, palette: Palette): EChartsCoreOption {
  const isBar = plot.kind === 'bar';
  return {
    xAxis: {
      type: 'category',
      data: plot.labels,
      boundaryGap: isBar,
      axisTick: { show: false },
      axisLine: { lineStyle: { color: palette.line } },
      axisLabel: {
        color: palette.text3,
        fontSize: 11,
        hideOverlap: true,
        interval: (at: number) => plot.ticks.has(at),
        formatter: (_: string, at: number) => plot.ticks.get(at) ?? '',
      },
    },
    yAxis: {
      type: 'value',
      splitNumber: 3,
      minInterval: plot.series.every((series) => series.values.every((value) => value === null || Number.isInteger(value))) ? 1 : 0,
      axisLabel: { color: palette.text3, fontSize: 11, formatter: (value: number) => plot.format(value) },
      splitLine: { lineStyle: { color: palette.line } },
    },
  };
}

/** The full part of a line, and its unfinished ends as dots. */
function parts(values: readonly (number | null)[], partial: readonly boolean[]): { full: (number | null)[]; open: (number | null)[] | null } {
  const last = values.length - 1;
  const isOpen = last > 0 && partial[last] === true;
  const isCut = last > 1 && partial[0] === true;
  if (!isOpen && !isCut) return { full: [...values], open: null };
  const full = values.map((value, at) => ((isOpen && at === last) || (isCut && at === 0) ? null : value));
  const open = values.map((value, at) => ((isOpen && at >= last - 1) || (isCut && at <= 1) ? value : null));
  return { full, open };
}

const hatched = { symbol: 'rect', symbolSize: 1, dashArrayX: [1, 0], dashArrayY: [2, 3], rotation: -Math.PI / 4, color: 'rgba(255,255,255,0.55)' };

function line(plot: Plot, series: Series, palette: Palette): object[] {
  const isArea = plot.kind === 'area';
  const { full, open } = parts(series.values, plot.partial);
  // A stack cannot be in two pieces: its unfinished end is told by the band beneath.
  const values = plot.stacked ? series.values : full;
  const base = { type: 'line', symbol: 'none', showSymbol: false, silent: true, animation: false };
  const isLone = (at: number): boolean => values[at] !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
  const drawn = {
    ...base,
    name: series.name,
    data: values.map((value, at) => (isLone(at) && !plot.stacked ? { value, symbol: 'circle', symbolSize: 5 } : value)),
    showSymbol: !plot.stacked && values.some((_, at) => isLone(at)),
    color: series.color,
    lineStyle: { width: plot.stacked ? 1 : 1.75, color: plot.stacked ? palette.surface : series.color },
    ...(plot.stacked ? { stack: 'all', areaStyle: { opacity: 1, color: series.color } } : {}),
    ...(isArea && !plot.stacked ? { areaStyle: { opacity: AREA_OPACITY, color: series.color } } : {}),
    z: 3,
  };
  if (plot.stacked || !open) return [drawn];
  return [drawn, { ...base, name: `${series.name} (unfinished)`, data: open, color: series.color, lineStyle: { width: 1.75, type: 'dotted', color: series.color }, z: 3 }];
}

function bars(plot: Plot, series: Series): object {
  return {
    type: 'bar',
    name: series.name,
    silent: true,
    animation: false,
    barMaxWidth: 48,
    barCategoryGap: '20%',
    color: series.color,
    ...(plot.stacked ? { stack: 'all' } : {}),
    data: series.values.map((value, at) => (plot.partial[at] ? { value, itemStyle: { decal: hatched, opacity: 0.75 } } : value)),
  };
}

/** Comparison: a grey line, or a tick on each bar. */
function previous(plot: Plot, palette: Palette): object[] {
  if (!plot.previous) return [];
  const base = { name: 'Compared with', silent: true, animation: false, color: palette.others, data: [...plot.previous] };
  if (plot.kind === 'bar') return [{ ...base, type: 'line', lineStyle: { width: 0 }, symbol: 'rect', symbolSize: [14, 3], showSymbol: true, z: 4 }];
  return [{ ...base, type: 'line', symbol: 'none', lineStyle: { width: 1.25, color: palette.others }, z: 2 }];
}

/** The option of a chart of lines, areas or bars. */
export function plotOption(plot: Plot, palette: Palette): EChartsCoreOption {
  const series = plot.series.flatMap((one) => (plot.kind === 'bar' ? [bars(plot, one)] : line(plot, one, palette)));
  return {
    animation: false,
    textStyle: TEXT,
    grid: { ...GRID, containLabel: false },
    ...axes(plot, palette),
    series: [...previous(plot, palette), ...series],
  };
}

/** A slice of a donut. */
export interface Slice {
  name: string;
  value: number;
  color: string;
}

/** The option of a donut. */
export function donutOption(slices: readonly Slice[], palette: Palette): EChartsCoreOption {
  return {
    animation: false,
    series: [
      {
        type: 'pie',
        silent: true,
        radius: ['52%', '82%'],
        center: ['50%', '50%'],
        label: { show: false },
        itemStyle: { borderColor: palette.surface, borderWidth: 1 },
        data: slices.map((slice) => ({ name: slice.name, value: slice.value, itemStyle: { color: slice.color } })),
      },
    ],
  };
}

/** A heat map: rows of values over columns. */
export interface Heat {
  columns: readonly string[];
  rows: readonly string[];
  ticks: ReadonlyMap<number, string>;
  /** Column, row, value. */
  cells: readonly (readonly [number, number, number])[];
}

/** The option of a heat map. */
export function heatOption(heat: Heat, palette: Palette): EChartsCoreOption {
  const most = heat.cells.reduce((max, [, , value]) => Math.max(max, value), 0);
  return {
    animation: false,
    textStyle: TEXT,
    grid: { left: 140, right: 12, top: 8, bottom: 24 },
    xAxis: {
      type: 'category',
      data: heat.columns,
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: { color: palette.text3, fontSize: 11, hideOverlap: true, interval: (at: number) => heat.ticks.has(at), formatter: (_: string, at: number) => heat.ticks.get(at) ?? '' },
    },
    yAxis: {
      type: 'category',
      inverse: true,
      data: heat.rows,
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: { color: palette.text3, fontSize: 11, width: 128, overflow: 'truncate' },
    },
    visualMap: { show: false, min: 0, max: Math.max(1, most), inRange: { color: [...palette.sequential] } },
    series: [{ type: 'heatmap', silent: true, animation: false, data: heat.cells.map((cell) => [...cell]), itemStyle: { borderColor: palette.surface, borderWidth: 1 } }],
  };
}
