/** The parts of ECharts that donuts and heat maps need, beside those of lines. */
import { HeatmapChart, PieChart } from 'echarts/charts';
import { VisualMapComponent } from 'echarts/components';
import { use } from './core';

use([HeatmapChart, PieChart, VisualMapComponent]);
