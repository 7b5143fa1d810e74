/** Asks before something is done, and says what it means. */
import { useEffect, useRef } from 'preact/hooks';
import './confirm.css';

interface Properties {
  title: string;
  children: string;
  act: string;
  onAct: () => void;
  onClose: () => void;
}

/** See the module. */
export function Confirm({ title, children, act, onAct, onClose }: Properties) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog class="confirm" ref={dialog} aria-label={title} onClose={onClose}>
      <h2>{title}</h2>
      <p>{children}</p>
      <div class="acts">
        <button type="button" class="button" autofocus onClick={() => dialog.current?.close()}>Cancel</button>
        <button type="button" class="button primary" onClick={() => { onAct(); dialog.current?.close(); }}>{act}</button>
      </div>
    </dialog>
  );
}
