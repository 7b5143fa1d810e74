/** Markdown as harmless elements: no script, no style, no picture of another host. */
import { useEffect, useRef } from 'preact/hooks';

async function fragment(text: string): Promise<DocumentFragment> {
  const [{ Marked }, { default: purify }] = await Promise.all([import('marked'), import('dompurify')]);
  // HTML within Markdown is shown as the text that it is.
  const words = new Marked({ renderer: { html: ({ text: raw }) => raw.replace(/&/g, '&amp;').replace(/</g, '&lt;') } });
  const html = await words.parse(text);
  return purify.sanitize(html, {
    ALLOWED_TAGS: ['p', 'br', 'b', 'strong', 'i', 'em', 'code', 'pre', 'ul', 'ol', 'li', 'h1', 'h2', 'h3', 'h4', 'blockquote', 'a', 'hr', 'table', 'thead', 'tbody', 'tr', 'th', 'td'],
    ALLOWED_ATTR: ['href', 'title'],
    ALLOWED_URI_REGEXP: /^(https?:|mailto:|\/|#)/i,
    RETURN_DOM_FRAGMENT: true,
  });
}

/** See the module. */
export function Markdown({ text }: { text: string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let isGone = false;
    void fragment(text).then((made) => {
      for (const link of made.querySelectorAll('a')) {
        if (!/^https?:/.test(link.getAttribute('href') ?? '')) continue;
        link.target = '_blank';
        link.rel = 'noopener noreferrer';
      }
      if (!isGone) place.current?.replaceChildren(made);
    });
    return () => { isGone = true; };
  }, [text]);
  return <div class="markdown" ref={place} />;
}
