import { defineConfig } from 'vite';

/** The server that the development page talks to. */
const server = process.env['OTUS_URL'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  // Nothing is inlined: the page is served under a policy that allows no inline styles, scripts or fonts.
  build: { outDir: 'dist', assetsDir: 'assets', assetsInlineLimit: 0, target: 'es2022', modulePreload: { polyfill: false } },
  server: { proxy: { '/api': { target: server, changeOrigin: false } } },
});
