// Plots. The colours are those of Okabe and Ito, safe for readers who cannot distinguish red and green; shapes differ too.
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#b5518a", "#c98a00", "#2f9bd6", "#7a57a8", "#6b6b6b"];
const DARK = ["#56b4e9", "#ff8b4d", "#2fc59b", "#e39ac4", "#f0b429", "#9ecae1", "#b9a3d6", "#aaaaaa"];
function hue(k) { return (window.matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT)[k % 8]; }
const SHAPES = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon"];
const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };
function positive(value) { return typeof value === "number" && value > 0; }

function layout(more) {
  const style = getComputedStyle(document.body), line = style.getPropertyValue("--line");
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  return Object.assign({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style.color, size: 12 },
    margin: { l: 64, r: 12, t: 12, b: 56 }, hovermode: "closest", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }
  }, more, { xaxis: Object.assign({}, axis, more.xaxis), yaxis: Object.assign({}, axis, more.yaxis) });
}
// A box for a plot. The plot is drawn when the box is on the page, and again when the colours of the page change.
function plot(title, build) {
  const box = make("div", { class: "plot", role: "img", "aria-label": title });
  box.draw = async () => {
    const Plotly = await plotting(), made = build(box);
    if (!made.traces.length) { box.textContent = made.empty || "Nothing to draw."; box.classList.add("empty"); return; }
    box.classList.remove("empty");
    if (!box.classList.contains("js-plotly-plot")) { box.textContent = ""; }
    await Plotly.react(box, made.traces, layout(made.layout), CONFIG);
    if (made.click) { box.removeAllListeners("plotly_click"); box.on("plotly_click", (event) => made.click(event.points[0])); }
  };
  return box;
}
function drawWithin(root) { return Promise.all(Array.from(root.querySelectorAll(".plot"), (box) => box.draw && box.draw())); }

// A log axis has no place for zeros, NaN and inf: zeros are drawn as open signs at its lower end, the others at the top.
function span(series) {
  const values = series.flat().filter(positive).map(Math.log10);
  const low = values.length ? Math.min.apply(null, values) : -16, high = values.length ? Math.max.apply(null, values) : 0;
  return [Math.floor(low - 0.6), Math.ceil(high + 0.6)];
}
function logAxis(range, title) {
  return { type: "log", range, exponentformat: "power", dtick: Math.ceil((range[1] - range[0]) / 8), title: { text: title } };
}
function points(title, x, values, hover, range, style) {
  const floor = Math.pow(10, range[0] + 0.05 * (range[1] - range[0])), ceiling = Math.pow(10, range[1] - 0.05 * (range[1] - range[0]));
  const pick = (test) => x.map((_, i) => i).filter((i) => test(values[i]));
  const trace = (text, at, y, marker) => ({
    type: "scatter", mode: "markers", name: text, x: at.map((i) => x[i]), y: at.map((i) => y(values[i])),
    text: at.map((i) => hover[i]), customdata: at, hoverinfo: "text", marker
  });
  const sound = pick(positive), zero = pick((v) => v === 0), strange = pick((v) => typeof v === "string");
  const list = [];
  if (sound.length) { list.push(trace(title, sound, (v) => v, style)); }
  if (zero.length) {
    list.push(trace(title + ": exactly 0 (at the floor)", zero, () => floor,
      { symbol: style.symbol + "-open", size: style.size, color: style.color, line: { width: 2, color: style.color } }));
  }
  if (strange.length) { list.push(trace(title + ": NaN or inf (at the top)", strange, () => ceiling, { symbol: "x", size: 11, color: "#d55e00" })); }
  return list;
}
function elementPlot(check) {
  const rows = check.elements, approximate = Boolean(check.resolutions || check.wavelengths);
  return plot("Error and bound of each element; the table below lists the numbers.", (box) => {
    const x = rows.map((_, i) => i), errors = rows.map((r) => r[1]), bounds = rows.map((r) => (approximate ? null : r[2]));
    const range = span([errors, bounds]);
    const hover = rows.map((r) => label(r[0], 60) + "<br>error " + show(r[1]) + (approximate ? "" :
      "<br>bound " + show(r[2]) + "<br>error in " + label(check.dtype, 20) + " " + show(r[3])));
    const width = Math.max(10, Math.min(40, 500 / rows.length));
    const traces = approximate ? [] : points("bound", x, bounds, hover, range,
      { symbol: "line-ew", size: width, color: hue(4), line: { width: 3, color: hue(4) } });
    const step = Math.ceil(rows.length / Math.max(4, Math.floor(box.clientWidth / 26)));
    const ticks = x.filter((i) => i % step === 0), letters = Math.max(14, Math.min(60, Math.floor(box.clientWidth / ticks.length / 7)));
    return {
      traces: traces.concat(points("error", x, errors, hover, range, { symbol: "circle", size: 9, color: hue(0) })),
      layout: {
        xaxis: { title: { text: "element" }, tickvals: ticks, ticktext: ticks.map((i) => label(rows[i][0], letters)), range: [-0.6, rows.length - 0.4] },
        yaxis: logAxis(range, "relative error")
      }
    };
  });
}
function resolutionPlot(check) {
  const rows = check.resolutions, x = rows.map((r) => r[0]);
  return plot("Error over grid sizes; the table above lists the numbers.", () => {
    const range = span([1, 2, 3].map((k) => rows.map((r) => r[k]))), traces = [];
    [["error", "circle", hue(0)], ["interpolation floor", "square", hue(4)], ["unconstrained control", "diamond", hue(3)]].forEach((s, k) => {
      const hover = rows.map((r) => "size " + r[0] + "<br>" + s[0] + " " + show(r[k + 1]));
      points(s[0], x, rows.map((r) => r[k + 1]), hover, range, { symbol: s[1], size: 9, color: s[2] }).forEach((trace) => {
        if (trace.name === s[0]) { trace.mode = "lines+markers"; trace.line = { color: s[2] }; }
        traces.push(trace);
      });
    });
    return { traces, layout: { xaxis: { title: { text: "grid size" }, type: "log", tickvals: x, ticktext: x.map(String) }, yaxis: logAxis(range, "relative error") } };
  });
}

// Errors of many checks: one line for each check, over resolutions or depths.
function linesPlot(title, checks, pointsOf, xtitle) {
  const found = checks.map((check) => ({ check, at: pointsOf(check) })).filter((line) => line.at.length > 1);
  const names = distinct(found.map((line) => line.check.implementation));
  return plot(title, () => {
    const seen = new Set();
    const traces = found.map((line) => {
      const k = names.indexOf(line.check.implementation), first = !seen.has(k);
      seen.add(k);
      return {
        type: "scatter", mode: "lines+markers", name: label(line.check.implementation, 40), legendgroup: String(k), showlegend: first,
        x: line.at.map((p) => p[0]), y: line.at.map((p) => (positive(p[1]) ? p[1] : null)),
        text: line.at.map((p) => label(line.check.implementation, 40) + ", " + label(line.check.dtype, 12) + "<br>" + label(line.check.case, 80) + "<br>" + xtitle + " " + p[0] + ": " + show(p[1])),
        hoverinfo: "text", customdata: line.at.map(() => line.check.id),
        line: { color: hue(k), width: 1.5, dash: line.check.dtype === "float64" ? "dot" : "solid" }, marker: { symbol: SHAPES[k % 8], size: 7 }
      };
    });
    const range = span(found.map((line) => line.at.map((p) => p[1])));
    const ticks = distinct(found.flatMap((line) => line.at.map((p) => p[0]))).sort((a, b) => a - b);
    return {
      traces, empty: "No check of this selection has these numbers.", click: (p) => { location.hash = "check/" + p.customdata; },
      layout: { xaxis: { title: { text: xtitle }, type: "log", tickvals: ticks, ticktext: ticks.map(String) }, yaxis: logAxis(range, "relative error"), showlegend: names.length <= 12 }
    };
  });
}
// The parameters of a case: "size=33 kernel=5" has a size and a kernel.
function parametersOf(check) {
  const found = { dtype: check.dtype };
  check.case.split(" ").forEach((word) => { const at = word.indexOf("="); if (at > 0) { found[word.slice(0, at)] = word.slice(at + 1); } });
  return found;
}
const DRAWN = 6000; // the most markers that a screen can show and a browser can draw in a second
function scatterPlot(checks, parameter, quantity) {
  return plot(quantity + " against " + parameter + " of every check; the table of checks lists the numbers.", () => {
    // Skipped checks are left out; declared deviations have signs of their own.
    let rows = checks.filter((c) => c.label !== "SKIP" && c[quantity] !== undefined && parametersOf(c)[parameter] !== undefined);
    rows = rows.slice(0, DRAWN); // worst first
    const values = distinct(rows.map((c) => parametersOf(c)[parameter]));
    values.sort((a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b)) : a - b));
    const kindOf = (c) => c.dtype + (c.label === "EXPECTED" ? " (deviates as declared)" : ""), kinds = distinct(rows.map(kindOf)).sort(), range = span([rows.map((c) => c[quantity])]), traces = [];
    kinds.forEach((kind, k) => {
      const own = rows.filter((c) => kindOf(c) === kind);
      // Points of one value are spread horizontally; the offset of a check is the same in every report.
      const x = own.map((c) => values.indexOf(parametersOf(c)[parameter]) + 0.7 * (parseInt(c.id.slice(0, 4), 16) / 65536 - 0.5));
      const hover = own.map((c) => label(c.implementation, 40) + "<br>" + label(c.property, 30) + ", " + label(c.dtype, 12) + "<br>" + label(c.case, 90) + "<br>" + quantity + " " + show(c[quantity]));
      points(label(kind, 50), x, own.map((c) => c[quantity]), hover, range, { symbol: SHAPES[k % 8], size: 6, opacity: 0.7, color: hue(k) })
        .forEach((trace) => { trace.customdata = trace.customdata.map((i) => own[i].id); traces.push(trace); });
    });
    const shapes = quantity === "ratio" ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { dash: "dash", color: "#d55e00" } }] : [];
    return {
      traces, click: (p) => { location.hash = "check/" + p.customdata; }, empty: "No check of this selection has both quantities.",
      layout: { shapes, xaxis: { title: { text: parameter }, tickvals: values.map((_, i) => i), ticktext: values.map((v) => label(v, 12)), range: [-0.6, values.length - 0.4] }, yaxis: logAxis(range, quantity === "ratio" ? "error / bound" : quantity) }
    };
  });
}
