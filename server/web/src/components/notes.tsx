/** Errors, warnings and empty states, where they happen. */
import type { ComponentChildren } from 'preact';
import type { ApiError, Problem } from '../api/errors';
import { Icon } from './icon';
import './notes.css';

/** One sentence and an act. */
export function Note({ kind, children, act }: { kind: 'bad' | 'warn' | 'plain'; children: ComponentChildren; act?: ComponentChildren }) {
  return (
    <div class={`note ${kind}`} role={kind === 'bad' ? 'alert' : 'status'}>
      {kind !== 'plain' && <Icon name="warn" />}
      <div class="note-text">{children}</div>
      {act}
    </div>
  );
}

const ADVICE: { readonly [code: string]: string } = {
  timeout: 'The question took too long. A shorter range or a coarser granularity is quicker.',
  'too-large': 'The question asks for too much at once. A shorter range or a coarser granularity helps.',
  unreachable: 'The server does not answer. What is shown is from before.',
};

function Details({ problems, code, hint }: { problems: readonly Problem[]; code: string; hint?: string | undefined }) {
  return (
    <details class="details">
      <summary>Details</summary>
      <p>Code {code}{hint ? `. ${hint}` : ''}</p>
      <ul>
        {problems.map((problem, at) => (
          <li key={at}>
            <code>{problem.path.join(' › ')}</code> {problem.reason}
          </li>
        ))}
      </ul>
    </details>
  );
}

/** A request that failed, and what to do. */
export function ErrorNote({ error, onRetry }: { error: ApiError; onRetry?: () => void }) {
  const act = onRetry && <button type="button" class="button small" onClick={onRetry}>Retry</button>;
  return (
    <Note kind="bad" act={act}>
      {ADVICE[error.code] ?? error.message}
      <Details problems={error.problems} code={error.code} hint={error.hint} />
    </Note>
  );
}

/** A part of an answer that failed. */
export function ProblemNote({ problem, onRetry }: { problem: Problem; onRetry?: () => void }) {
  const act = onRetry && <button type="button" class="button small" onClick={onRetry}>Retry</button>;
  return (
    <Note kind="bad" act={act}>
      {ADVICE[problem.code] ?? `This part failed: ${problem.reason}`}
      <Details problems={[problem]} code={problem.code} />
    </Note>
  );
}

/** A place with nothing in it, and the next step. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}
