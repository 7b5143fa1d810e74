/** The editor of SQL: CodeMirror with completion from the catalogue. */
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { PostgreSQL, sql } from '@codemirror/lang-sql';
import { HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { Compartment, EditorState } from '@codemirror/state';
import { EditorView, keymap, lineNumbers, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';

/** An editor in the page. */
export interface Editor {
  /** What is selected, or all. */
  text(): string;
  whole(): string;
  set(text: string): void;
  insert(text: string): void;
  /** Tables and their columns, for completion. */
  know(schema: { readonly [table: string]: readonly string[] }): void;
  destroy(): void;
}

const COLOURS = HighlightStyle.define([
  { tag: tags.keyword, color: 'var(--accent-text)', fontWeight: '600' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--good)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--warn)' },
  { tag: tags.comment, color: 'var(--text3)', fontStyle: 'italic' },
]);

const LOOK = EditorView.theme({
  '&': { fontSize: '13px', backgroundColor: 'var(--surface)', color: 'var(--text)', height: '100%' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '20px', overflow: 'auto' },
  '.cm-content': { caretColor: 'var(--text)', padding: '8px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'var(--surface)', color: 'var(--text3)', borderRight: '1px solid var(--border)' },
  '&.cm-focused .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--bar-selected)' },
  '.cm-tooltip': { backgroundColor: 'var(--surface)', border: '1px solid var(--border)', color: 'var(--text)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent)', color: 'var(--on-accent)' },
});

function language(schema: { readonly [table: string]: readonly string[] }) {
  const known = Object.fromEntries(Object.entries(schema).map(([table, columns]) => [table, [...columns]]));
  return sql({ dialect: PostgreSQL, schema: known, upperCaseKeywords: true });
}

/** Makes an editor. */
export function editor(parent: HTMLElement, text: string, onRun: () => void, onChange: (text: string) => void): Editor {
  const words = new Compartment();
  const run = { key: 'Mod-Enter', run: () => { onRun(); return true; } };
  // Within a shadow root the editor's styles are constructed sheets, which need no leave of the page's policy.
  const root = parent.attachShadow({ mode: 'open' });
  const box = document.createElement('div');
  box.style.height = '100%';
  root.append(box);
  const view = new EditorView({
    parent: box,
    root,
    state: EditorState.create({
      doc: text,
      extensions: [
        keymap.of([run, ...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap, indentWithTab]),
        lineNumbers(), history(), closeBrackets(), autocompletion(), EditorView.lineWrapping,
        placeholder('SELECT … FROM …'), words.of(language({})), syntaxHighlighting(COLOURS), LOOK,
        EditorView.contentAttributes.of({ 'aria-label': 'SQL' }),
        EditorView.updateListener.of((update) => { if (update.docChanged) onChange(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    text() {
      const { from, to } = view.state.selection.main;
      const selected = view.state.sliceDoc(from, to).trim();
      return selected === '' ? view.state.doc.toString() : selected;
    },
    whole: () => view.state.doc.toString(),
    set(next) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } });
    },
    insert(next) {
      view.dispatch(view.state.replaceSelection(next));
      view.focus();
    },
    know(schema) {
      view.dispatch({ effects: words.reconfigure(language(schema)) });
    },
    destroy: () => view.destroy(),
  };
}
