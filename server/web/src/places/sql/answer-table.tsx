/** The rows of an answer of SQL. */
import type { SqlAnswer, SqlCell } from '../../api/client';
import { sized, VirtualTable } from '../../components/virtual-table';

/** A cell as text. */
export function cellText(cell: SqlCell): string {
  if (cell === null) return '∅';
  return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}

/** See the module. */
export function AnswerTable({ answer, rows, height }: { answer: SqlAnswer; rows: SqlAnswer['rows']; height: number }) {
  const columns = sized(answer.columns, (row, column) => cellText(rows[row]?.[column] ?? null), rows.length);
  return (
    <VirtualTable
      label="Answer"
      columns={columns}
      rows={rows}
      height={height}
      cell={(row, at) => {
        const cell = row[at] ?? null;
        return cell === null ? <span class="word">∅</span> : cellText(cell);
      }}
    />
  );
}
