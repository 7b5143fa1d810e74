/** A table of many rows, of which only those in sight are drawn. Rows are 28 px high. */
import type { ComponentChildren } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import './virtual-table.css';

/** A column: its name, type and whether its cells stand to the right. */
export interface TableColumn {
  name: string;
  type: string;
  isNumber: boolean;
  /** Width in pixels. */
  width: number;
}

interface Properties<T> {
  label: string;
  columns: readonly TableColumn[];
  rows: readonly T[];
  cell: (row: T, column: number) => ComponentChildren;
  height: number;
}

const ROW = 28;
const BESIDE = 12;

/** See the module. */
export function VirtualTable<T>({ label, columns, rows, cell, height }: Properties<T>) {
  const [top, setTop] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const first = Math.max(0, Math.floor(top / ROW) - BESIDE);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + BESIDE);
  const template = useMemo(() => columns.map((column) => `minmax(${column.width}px, ${column.width}fr)`).join(' '), [columns]);
  const width = columns.reduce((sum, column) => sum + column.width, 0);
  return (
    <div
      class="virtual"
      ref={box}
      role="table"
      aria-label={label}
      aria-rowcount={rows.length + 1}
      tabIndex={0}
      style={{ maxHeight: `${height}px` }}
      onScroll={() => setTop(box.current?.scrollTop ?? 0)}
    >
      <div role="rowgroup" class="virtual-head" style={{ minWidth: `${width}px` }}>
        <div role="row" class="virtual-row" style={{ gridTemplateColumns: template }}>
          {columns.map((column, at) => <div key={at} role="columnheader" class={column.isNumber ? 'num' : ''} title={column.type}>{column.name}</div>)}
        </div>
      </div>
      <div role="rowgroup" class="virtual-body" style={{ height: `${rows.length * ROW}px`, minWidth: `${width}px` }}>
        {rows.slice(first, last).map((row, at) => (
          <div key={first + at} role="row" aria-rowindex={first + at + 2} class="virtual-row placed" style={{ top: `${(first + at) * ROW}px`, gridTemplateColumns: template }}>
            {columns.map((column, i) => <div key={i} role="cell" class={column.isNumber ? 'num' : ''}>{cell(row, i)}</div>)}
          </div>
        ))}
      </div>
    </div>
  );
}

const NUMBER = /^(smallint|integer|bigint|real|double precision|numeric)/;
const SAMPLED = 60;

/** Columns as wide as their first rows need. */
export function sized(names: readonly { name: string; type: string }[], text: (row: number, column: number) => string, rows: number): TableColumn[] {
  return names.map(({ name, type }, column) => {
    let most = name.length;
    for (let row = 0; row < Math.min(rows, SAMPLED); row += 1) most = Math.max(most, text(row, column).length);
    return { name, type, isNumber: NUMBER.test(type), width: Math.min(360, Math.max(70, most * 8.4 + 24)) };
  });
}
