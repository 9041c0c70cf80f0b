// Series over runs, one line for each layer; dotted lines are change points.
function trendsView(root, data) {
  const state = { machine: Object.keys(data.machines)[0], quantity: data.quantities[0], group: null };
  const groupOf = (layer) => (layer.includes(": ") ? layer.split(": ")[0] : layer.split(".")[0]);
  const tools = make("div", { class: "tools" });
  const chosen = () => data.series.filter((s) => s.machine === state.machine && s.quantity === state.quantity);
  const box = plot("The chosen series over time; the tables below list the numbers.", () => {
    const runs = data.machines[state.machine], dates = runs.dates.map((d) => new Date(1000 * d)), shown = chosen().filter((s) => groupOf(s.layer) === state.group);
    const unit = data.units[state.quantity];
    return {
      traces: shown.map((s, k) => ({ x: dates, y: s.values, text: runs.commits.map((c) => label(c, 12)), name: label(s.layer, 60), mode: "lines+markers", connectgaps: true,
        marker: { size: 5, symbol: SHAPES[k % 8] }, line: { color: hue(k) }, hovertemplate: "%{text}<br>%{y}<extra>%{fullData.name}</extra>" })),
      layout: { yaxis: { title: { text: label(state.quantity, 60) + (unit ? ", " + unit : "") }, rangemode: "tozero" },
        shapes: shown.flatMap((s) => s.steps.map((i) => ({ type: "line", x0: dates[i], x1: dates[i], yref: "paper", y0: 0, y1: 1, line: { dash: "dot", width: 1.5, color: "#d55e00" } }))) }
    };
  });
  const change = (key) => (value) => { state[key] = value; refresh(); return box.draw(); };
  const refresh = () => {
    const groups = distinct(chosen().map((s) => groupOf(s.layer))).sort(), pairs = (values) => values.map((v) => [v, v]);
    if (!groups.includes(state.group)) { state.group = groups[0]; }
    tools.replaceChildren(select("machine", pairs(Object.keys(data.machines)), state.machine, change("machine")),
      select("quantity", pairs(data.quantities), state.quantity, change("quantity")), select("layers", pairs(groups), state.group, change("group")));
  };
  refresh();
  root.append(tools, box);
  return box.draw();
}
