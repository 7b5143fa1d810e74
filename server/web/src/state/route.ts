/** Where the page is: the path names a place and an object, the fragment holds the view. */
import { signal } from '@preact/signals';

/** The address but its host. */
export interface Route {
  path: string;
  fragment: string;
}

function current(): Route {
  return { path: location.pathname, fragment: location.hash };
}

/** The address that is shown. */
export const route = signal<Route>(current());

/** Goes to an address of this page. */
export function navigate(address: string, way: 'push' | 'replace' = 'push'): void {
  if (address === `${location.pathname}${location.hash}`) return;
  if (way === 'push') history.pushState(null, '', address);
  else history.replaceState(null, '', address);
  route.value = current();
}

/** Whether a click on a link stays within the page. */
function isPlain(event: MouseEvent): boolean {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey && !event.defaultPrevented;
}

/** Follows the browser's Back and Forward, and links within the page. */
export function listen(): void {
  addEventListener('popstate', () => {
    route.value = current();
  });
  addEventListener('hashchange', () => {
    route.value = current();
  });
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || !isPlain(event) || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname.startsWith('/api/') || link.getAttribute('href')?.startsWith('#')) return;
    event.preventDefault();
    navigate(`${link.pathname}${link.hash}`);
    scrollTo(0, 0);
  });
}

/** The parts of a path, decoded. */
export function parts(path: string): string[] {
  return path.split('/').filter((part) => part !== '').map((part) => decodeURIComponent(part));
}
