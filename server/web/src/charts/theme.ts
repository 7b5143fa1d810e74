/** Colours of charts. palette.test.ts keeps them apart for everybody. */
import type { Theme } from '../state/settings';

/** What a chart is drawn in. */
export interface Palette {
  series: readonly string[];
  sequential: readonly string[];
  surface: string;
  text: string;
  text3: string;
  line: string;
  others: string;
  /** Labels in squares of the sequential colours. */
  onStep: (step: number) => string;
}

const LIGHT: Palette = {
  series: ['#4e60f5', '#ef6b33', '#036766', '#bc63a7', '#6f3ab0', '#8b5e01', '#3c97ee', '#502d19'],
  sequential: ['#eff4fc', '#cddffd', '#a0c3f8', '#71a2ef', '#437dde', '#2757b6', '#183680'],
  surface: '#ffffff',
  text: '#171b22',
  text3: '#5f6978',
  line: '#dde1e8',
  others: '#7d8797',
  onStep: (step) => (step <= 4 ? '#0b0f14' : '#ffffff'),
};

const DARK: Palette = {
  series: ['#659afe', '#fe9c20', '#519177', '#e450c1', '#b5b9fd', '#f9d381', '#c8eafd', '#c0a697'],
  sequential: ['#171f2e', '#1e3256', '#284883', '#3764af', '#5086d6', '#7daeec', '#bddbfb'],
  surface: '#161b22',
  text: '#e8ebf0',
  text3: '#8e98a7',
  line: '#2a323d',
  others: '#8e98a7',
  onStep: (step) => (step <= 3 ? '#e8ebf0' : '#0b1220'),
};

/** The colours of a theme. */
export function palette(theme: Theme): Palette {
  return theme === 'dark' ? DARK : LIGHT;
}
