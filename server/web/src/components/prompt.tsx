/** Asks for a line of text. */
import { useEffect, useRef, useState } from 'preact/hooks';
import './confirm.css';

interface Properties {
  title: string;
  first: string;
  act: string;
  isLong?: boolean;
  onAct: (text: string) => void;
  onClose: () => void;
}

/** See the module. */
export function Prompt({ title, first, act, isLong = false, onAct, onClose }: Properties) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState(first);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const done = (): void => {
    if (text.trim() === '') return;
    onAct(text.trim());
    dialog.current?.close();
  };
  return (
    <dialog class="confirm" ref={dialog} aria-label={title} onClose={onClose}>
      <h2>{title}</h2>
      <form onSubmit={(event) => { event.preventDefault(); done(); }}>
        {isLong ? (
          <textarea class="field long" rows={8} autofocus aria-label={title} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        ) : (
          <input class="field" autofocus aria-label={title} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        )}
        <div class="acts">
          <button type="button" class="button" onClick={() => dialog.current?.close()}>Cancel</button>
          <button type="submit" class="button primary" disabled={text.trim() === ''}>{act}</button>
        </div>
      </form>
    </dialog>
  );
}
