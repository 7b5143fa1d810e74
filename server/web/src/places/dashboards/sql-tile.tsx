/** A tile that asks in SQL: its answer as a chart where it can be one, else as a table. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { sql, type SqlAnswer } from '../../api/client';
import { asApiError, type ApiError } from '../../api/errors';
import { Slots } from '../../api/slots';
import { ErrorNote, Note } from '../../components/notes';
import { AnswerChart, isChart } from '../sql/answer-chart';
import { AnswerTable } from '../sql/answer-table';
import type { OpenBoard } from './store';

/** See the module. */
export function SqlTile({ open, query, height }: { open: OpenBoard; query: string; height: number }) {
  const [answer, setAnswer] = useState<SqlAnswer | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const slots = useRef(new Slots());
  const zone = open.head.view.value.zone;
  const round = open.round.value;
  const run = (): void => {
    slots.current
      .latest('run', (signal) => sql(query, { TimeZone: zone }, signal))
      .then((found) => {
        if (!found) return;
        setAnswer(found);
        setError(null);
      })
      .catch((failed: unknown) => setError(asApiError(failed)));
  };
  useEffect(run, [query, zone, round]);
  useEffect(() => () => slots.current.abort('run'), []);
  return (
    <>
      {error && <ErrorNote error={error} onRetry={run} />}
      {answer?.failure && <Note kind="bad">The answer broke off: {answer.failure}</Note>}
      {answer && (isChart(answer) ? <AnswerChart answer={answer} height={height - 12} /> : <AnswerTable answer={answer} rows={answer.rows} height={height} />)}
    </>
  );
}
