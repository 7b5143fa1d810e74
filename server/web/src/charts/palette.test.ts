import { describe, expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { palette } from './theme';

type Rgb = readonly [number, number, number];

const channel = (value: number): number => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);

function linear(hex: string): Rgb {
  const part = (at: number): number => channel(Number.parseInt(hex.slice(at, at + 2), 16) / 255);
  return [part(1), part(3), part(5)];
}

function luminance(hex: string): number {
  const [r, g, b] = linear(hex);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** Full loss of one kind of cone, on linear light (Machado, Oliveira and Fernandes 2009). */
const SIGHTS: { readonly [name: string]: readonly Rgb[] } = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

function oklab(rgb: Rgb): Rgb {
  const [r, g, b] = rgb.map((value) => Math.max(0, Math.min(1, value))) as unknown as Rgb;
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

function nearest(colours: readonly string[], sight: readonly Rgb[]): number {
  const seen = colours.map((colour) => {
    const rgb = linear(colour);
    return oklab(sight.map((row) => row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]) as unknown as Rgb);
  });
  let least = Infinity;
  seen.forEach((a, i) => seen.slice(i + 1).forEach((b) => { least = Math.min(least, Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) * 100); }));
  return least;
}

describe.each(['light', 'dark'] as const)('the colours of the %s theme', (theme) => {
  const colours = palette(theme);
  it.each(Object.entries(SIGHTS))('are apart for %s sight', (_, sight) => {
    expect(nearest(colours.series, sight)).toBeGreaterThan(9);
  });
  it('stand out from the ground', () => {
    for (const colour of colours.series) expect(contrast(colour, colours.surface)).toBeGreaterThan(3);
  });
  it('carry labels that can be read', () => {
    colours.sequential.forEach((colour, at) => expect(contrast(colours.onStep(at), colour), `step ${at}`).toBeGreaterThan(4.2));
  });
});

describe('the tokens', () => {
  const css = readFileSync(new URL('../styles/tokens.css', import.meta.url), 'utf8');
  const [light, dark] = css.split("[data-theme='dark']").map((part) => new Map([...part.matchAll(/--([a-z0-9-]+): (#[0-9a-f]{6})/g)].map((found) => [found[1] ?? '', found[2] ?? ''])));
  it.each([['light', light], ['dark', dark]] as const)('of the %s theme can be read', (_, tokens) => {
    const of = (name: string): string => tokens?.get(name) ?? '';
    for (const ground of ['bg', 'surface', 'sunken']) {
      for (const text of ['text', 'text2', 'text3']) expect(contrast(of(text), of(ground)), `${text} on ${ground}`).toBeGreaterThan(4.5);
      expect(contrast(of('border-strong'), of(ground)), `border on ${ground}`).toBeGreaterThan(3);
    }
    for (const pair of [['accent-text', 'accent-soft'], ['on-accent', 'accent'], ['good', 'good-soft'], ['bad', 'bad-soft'], ['warn', 'warn-soft'], ['text', 'bar'], ['text', 'bar-selected']]) {
      expect(contrast(of(pair[0] ?? ''), of(pair[1] ?? '')), pair.join(' on ')).toBeGreaterThan(4.4);
    }
  });
});
