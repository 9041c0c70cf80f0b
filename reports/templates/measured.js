// Costs of the layers, compared with the hardware's limit and with each other at equal accuracy; and validity maps.
function unitOf(m) {
  if (m.unit === "s") { return duration(m.value); }
  if (m.unit === "B") { return show(m.value / 1048576) + " MiB"; }
  if (/^share of floor/.test(m.quantity)) { return Math.round(100 * m.value) + " %"; }
  return show(m.value) + (m.unit ? " " + m.unit : "");
}
function entriesOf(measurements) {
  const found = new Map();
  measurements.forEach((m) => {
    const key = [m.operator, m.implementation, m.case, m.dtype, m.batch, m.setting, m.device].join("\u0000");
    if (!found.has(key)) { found.set(key, { ...m, at: {} }); }
    found.get(key).at[m.quantity] = m.value;
  });
  return Array.from(found.values());
}
function entryName(entry) { return label(entry.implementation + (entry.setting === "eager" || !entry.setting ? "" : " (" + entry.setting + ")"), 50); }
// The roofline: measured rate against work per byte, below the highest rate that the machine allows.
function rooflinePlot(entries, ceilings, quantity) {
  return plot("Roofline of " + quantity + "; the tables below list the numbers.", () => {
    const dtypes = distinct(entries.map((e) => e.dtype)), traces = [];
    dtypes.forEach((dtype, k) => {
      const own = entries.filter((e) => e.dtype === dtype && positive(e.at["intensity of " + quantity]) && positive(e.at[quantity]) && positive(e.at["floor of " + quantity]));
      const top = ceilings[dtype];
      if (!own.length || !top) { return; }
      const attainable = (x) => Math.min(top.flops_per_second, x * top.bytes_per_second);
      const x = own.map((e) => e.at["intensity of " + quantity]);
      const line = [Math.min.apply(null, x) / 3, top.flops_per_second / top.bytes_per_second, Math.max.apply(null, x) * 3].sort((a, b) => a - b);
      traces.push({ type: "scatter", mode: "lines", name: "limit, " + label(dtype, 12), x: line, y: line.map(attainable), line: { color: hue(k), width: 2 }, hoverinfo: "skip" });
      const y = own.map((e, i) => (attainable(x[i]) * e.at["floor of " + quantity]) / e.at[quantity]);
      traces.push({ type: "scatter", mode: "markers", name: label(dtype, 12), x, y, hoverinfo: "text", marker: { symbol: SHAPES[k % 8], size: 9, color: hue(k) },
        text: own.map((e, i) => entryName(e) + "<br>" + label(e.operator, 40) + "<br>" + show(y[i] / 1e9) + " Gflop/s, " + Math.round((100 * e.at["floor of " + quantity]) / e.at[quantity]) + " % of the limit") });
    });
    return { traces, empty: "The record does not hold the work of its layers. Measure again with this version.",
      layout: { xaxis: { type: "log", exponentformat: "power", title: { text: "work for each byte (flop / B)" } }, yaxis: { type: "log", exponentformat: "power", title: { text: "reached (flop / s)" } } } };
  });
}
// Time against the floor: a layer on the diagonal reaches the machine's limit.
function floorPlot(entries, quantity) {
  return plot("Time of " + quantity + " against its floor; the tables below list the numbers.", () => {
    const own = entries.filter((e) => positive(e.at["floor of " + quantity]) && positive(e.at[quantity])), names = distinct(own.map((e) => e.dtype));
    const floors = own.map((e) => e.at["floor of " + quantity]), ends = own.length ? [Math.min.apply(null, floors) / 2, Math.max.apply(null, floors) * 2] : [];
    const traces = [1, 2, 10].map((times) => ({ type: "scatter", mode: "lines", name: Math.round(100 / times) + " % of the limit", x: ends, y: ends.map((v) => times * v), line: { dash: times === 1 ? "solid" : "dot", width: 1.5, color: "#7f7f7f" }, hoverinfo: "skip" }));
    names.forEach((dtype, k) => {
      const mine = own.filter((e) => e.dtype === dtype);
      traces.push({ type: "scatter", mode: "markers", name: label(dtype, 12), x: mine.map((e) => e.at["floor of " + quantity]), y: mine.map((e) => e.at[quantity]), hoverinfo: "text",
        text: mine.map((e) => entryName(e) + "<br>" + label(e.operator, 40) + "<br>" + duration(e.at[quantity]) + ", floor " + duration(e.at["floor of " + quantity])), marker: { symbol: SHAPES[k % 8], size: 9, color: hue(k) } });
    });
    return { traces: own.length ? traces : [], empty: "No measurement has a floor.",
      layout: { xaxis: { type: "log", exponentformat: "power", title: { text: "floor (s)" } }, yaxis: { type: "log", exponentformat: "power", title: { text: "time (s)" } } } };
  });
}
// Peers: only layers of equal accuracy are comparable, so error and time have one axis each.
function peersPlot(entries, quantity) {
  return plot("Time of " + quantity + " against equivariance error; the tables below list the numbers.", () => {
    const own = entries.filter((e) => positive(e.at[quantity]) && e.at["equivariance error"] !== undefined);
    const names = distinct(own.map((e) => e.implementation)), range = span([own.map((e) => e.at["equivariance error"])]);
    const traces = names.flatMap((title, k) => {
      const mine = own.filter((e) => e.implementation === title);
      return points(label(title, 40), mine.map((e) => e.at[quantity]), mine.map((e) => e.at["equivariance error"]),
        mine.map((e) => entryName(e) + ", " + label(e.dtype, 12) + "<br>" + duration(e.at[quantity]) + ", error " + show(e.at["equivariance error"])), range, { symbol: SHAPES[k % 8], size: 11, color: hue(k) });
    });
    return { traces, empty: "Nothing was timed.", layout: { xaxis: { type: "log", exponentformat: "power", title: { text: quantity + " (s), left is faster" } }, yaxis: logAxis(range, "equivariance error, lower is better") } };
  });
}
function measuredView(root, measurements, ceilings) {
  const entries = entriesOf(measurements), operators = distinct(entries.map((e) => e.operator || e.implementation)), place = make("div", {});
  const state = { operator: operators[0], quantity: "forward" };
  const draw = () => {
    const own = entries.filter((e) => (e.operator || e.implementation) === state.operator);
    place.replaceChildren(make("h3", {}, "Peers at equal accuracy: ", name(state.operator)), peersPlot(own, state.quantity),
      make("h3", {}, "Roofline of all operators"), rooflinePlot(entries, ceilings, state.quantity), make("h3", {}, "Time against the floor"), floorPlot(entries, state.quantity));
    return drawWithin(place);
  };
  root.append(make("div", { class: "tools" }, select("operator", operators.map((o) => [o, o]), state.operator, (v) => { state.operator = v; draw(); }),
    select("pass", [["forward", "forward"], ["backward", "backward"]], state.quantity, (v) => { state.quantity = v; draw(); })), place);
  return draw();
}
const OUTCOMES = [["BROKEN", "does not hold", "#d55e00", "✗"], ["", "undecided", "#e69f00", "?"], ["SKIPPED", "the layer refuses it", "#bbbbbb", "–"], ["EXACT", "holds", "#009e73", "✓"]];
function validityPlot(map) {
  const words = (names, values) => names.map((n, i) => (values[i] === null ? "" : n + values[i])).filter(Boolean).join(" ");
  const across = (p) => words(["N", "k"], [p[0], p[1]]), down = (p) => words(["s", "p", "q"], [p[2], p[3], p[4]]);
  const columns = distinct(map.points.map(across)), rows = distinct(map.points.map(down));
  const code = (verdict) => { const i = OUTCOMES.findIndex((o) => o[0] === verdict); return i < 0 ? 1 : i; };
  const box = plot("Validity map of " + map.name, () => {
    const z = rows.map(() => columns.map(() => null)), text = rows.map(() => columns.map(() => ""));
    map.points.forEach((p) => { const i = rows.indexOf(down(p)), j = columns.indexOf(across(p)); z[i][j] = code(p[5]); text[i][j] = OUTCOMES[code(p[5])][3]; });
    const scale = OUTCOMES.flatMap((o, i) => [[i / 4, o[2]], [(i + 1) / 4, o[2]]]);
    return { traces: [{ type: "heatmap", x: columns, y: rows, z, text, texttemplate: columns.length * rows.length <= 400 ? "%{text}" : "", xgap: 1, ygap: 1, zmin: -0.5, zmax: 3.5, colorscale: scale,
      customdata: z.map((line) => line.map((v) => (v === null ? "" : OUTCOMES[v][1]))), hovertemplate: "%{x} %{y}: %{customdata}<extra></extra>",
      colorbar: { tickvals: [0, 1, 2, 3], ticktext: OUTCOMES.map((o) => o[3] + " " + o[1]), thickness: 12 } }],
    layout: { xaxis: { type: "category", tickangle: 90 }, yaxis: { type: "category", autorange: "reversed" } } };
  });
  return make("section", {}, make("h3", {}, name(map.name)), make("p", {}, "Law: ", name(map.law || "no law that was tried"), ", explains " + map.agree + " of " + map.of + " geometries."), box);
}
