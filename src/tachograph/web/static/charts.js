// Draws the page's charts from the data blocks beside them; colours come from the style sheet, so themes just work.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const SERIES = ["--s0", "--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7"];
const MANY = 60; // from here on points are not marked one by one
const drawn = new Map();

function short(value) {
  const units = ["", "k", "M", "G", "T"];
  let at = 0;
  while (Math.abs(value) >= 999.5 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return at || !Number.isInteger(value) ? `${Number(value.toPrecision(3))}${units[at]}` : `${value}`;
}

function money(value) {
  if (value === 0) return "$0";
  return Math.abs(value) < 1 ? `$${value.toFixed(4)}` : `$${value.toLocaleString("en-US", { maximumFractionDigits: 2 })}`;
}

function seconds(value) {
  if (!value) return "0 s";
  if (value < 1e-3) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  return value < 120 ? `${Number(value.toPrecision(3))} s` : `${Math.round(value / 60)} m`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// Below the chart a day needs no year; the tooltip has the whole label.
function moment(label) {
  const [, month, day, time] = /^\d{4}-(\d\d)-(\d\d)( \d\d:\d\d)?$/.exec(label) ?? [];
  return month ? `${MONTHS[month - 1]} ${Number(day)}${time ?? ""}` : label;
}

function grid(value, unit) {
  if (unit !== "dollars" || value === 0 || value >= 1000) return WRITE[unit](value);
  const precise = Number(value.toPrecision(3));
  return `$${precise.toFixed(Math.max(0, precise < 10 ? 2 : 0, (String(precise).split(".")[1] ?? "").length))}`;
}

const WRITE = {
  dollars: money,
  tokens: short,
  count: (value) => value.toLocaleString("en-US"),
  seconds,
  share: (value) => `${(value * 100).toFixed(1)}%`,
};

function colourOf(series, at) {
  const name = series.colour || String(at);
  return style(/^\d+$/.test(name) ? SERIES[Number(name) % SERIES.length] : `--${name}`);
}

function datasets(data) {
  const isStack = data.kind === "stack";
  return data.series.map((series, at) => {
    const colour = colourOf(series, at);
    return {
      label: series.name,
      data: series.values,
      backgroundColor: isStack ? colour : `${colour}2e`,
      borderColor: colour,
      borderWidth: isStack ? 0 : 1.5,
      pointRadius: data.kind === "scatter" ? 2.5 : isStack || data.labels.length > MANY ? 0 : 2,
      pointHitRadius: 8,
      fill: data.kind === "area",
      spanGaps: data.is_joined ?? false,
      showLine: data.kind !== "scatter",
      barPercentage: 0.92,
      categoryPercentage: 0.9,
      maxBarThickness: 48,
    };
  });
}

function scales(data) {
  const faint = style("--faint");
  const stacked = data.kind === "stack";
  const font = { size: 11 };
  return {
    x: {
      stacked,
      grid: { display: false },
      border: { color: style("--line") },
      ticks: { color: faint, maxRotation: 0, autoSkipPadding: 24, font, callback: (value) => moment(data.labels[value] ?? "") },
    },
    y: {
      stacked,
      beginAtZero: true,
      suggestedMax: data.y_max,
      grid: { color: style("--line"), drawTicks: false },
      border: { display: false },
      ticks: { color: faint, maxTicksLimit: 5, font, callback: (value) => grid(value, data.unit) },
    },
  };
}

function tooltip(data) {
  const write = WRITE[data.unit];
  const [ink, paper] = [style("--ink"), style("--bg")];
  return {
    backgroundColor: ink,
    titleColor: paper,
    bodyColor: paper,
    footerColor: paper,
    boxWidth: 8,
    boxHeight: 8,
    filter: (item) => item.raw !== null && item.raw !== 0,
    itemSort: (one, other) => other.raw - one.raw,
    callbacks: {
      label: (item) => `${item.dataset.label}  ${write(item.raw)}`,
      footer(items) {
        const sum = items.reduce((all, item) => all + item.raw, 0);
        const mark = data.marks?.find((one) => one.at === items[0]?.dataIndex);
        return [data.kind === "stack" && items.length > 1 ? `in all  ${write(sum)}` : "", mark?.label].filter(Boolean);
      },
    },
  };
}

function follow(data, event, chart) {
  const exact = chart.getElementsAtEventForMode(event, "nearest", { intersect: true }, true)[0];
  const place = chart.getElementsAtEventForMode(event, "index", { intersect: false }, true)[0];
  const href = (place && data.hrefs?.[place.index]) || (exact && data.series[exact.datasetIndex].href);
  if (href) location.href = href;
}

// Thin lines where something happened: a model switch, a compaction, a cache that broke.
const marks = {
  id: "marks",
  afterDatasetsDraw(chart) {
    const { ctx, chartArea, scales: axes } = chart;
    ctx.save();
    ctx.strokeStyle = style("--warn");
    ctx.setLineDash([3, 3]);
    for (const mark of chart.options.plugins.marks ?? []) {
      const x = axes.x.getPixelForValue(mark.at);
      ctx.beginPath();
      ctx.moveTo(x, chartArea.top);
      ctx.lineTo(x, chartArea.bottom);
      ctx.stroke();
    }
    ctx.restore();
  },
};

// A line is named by its colour, as a bar is, not by the pale one below it.
function named(chart) {
  const labels = globalThis.Chart.defaults.plugins.legend.labels.generateLabels(chart);
  return labels.map((label) => ({ ...label, fillStyle: chart.data.datasets[label.datasetIndex].borderColor, lineWidth: 0 }));
}

function options(data) {
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false },
    onClick: (event, _, chart) => follow(data, event, chart),
    scales: scales(data),
    plugins: {
      marks: data.marks ?? [],
      tooltip: tooltip(data),
      legend: {
        display: data.series.length > 1,
        position: "bottom",
        align: "start",
        labels: { color: style("--soft"), boxWidth: 8, boxHeight: 8, font: { size: 12 }, padding: 12, generateLabels: named },
      },
    },
  };
}

function draw(box) {
  const block = box.querySelector('script[type="application/json"]');
  if (!block || !globalThis.Chart) return;
  const data = JSON.parse(block.textContent);
  drawn.get(box)?.destroy();
  globalThis.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  for (const child of [...box.children]) if (child !== block) child.remove();
  const canvas = document.createElement("canvas");
  box.append(canvas);
  const type = data.kind === "stack" ? "bar" : "line";
  const content = { labels: data.labels, datasets: datasets(data) };
  drawn.set(box, new globalThis.Chart(canvas, { type, data: content, options: options(data), plugins: [marks] }));
}

function drawAll() {
  for (const [box, chart] of drawn) {
    if (box.isConnected) continue;
    chart.destroy();
    drawn.delete(box);
  }
  for (const box of document.querySelectorAll("[data-plot]")) if (!box.querySelector("canvas")) draw(box);
}

const redraw = () => [...drawn.keys()].forEach(draw);
drawAll();
document.addEventListener("tachograph:refreshed", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
