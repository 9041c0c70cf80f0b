(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("plots").textContent);
  var checks = Array.prototype.slice.call(document.querySelectorAll("details.check"));
  var query = window.matchMedia("(prefers-color-scheme: dark)");

  // The plotting library reads a little markup in its labels: names are shown to it as plain text, cut to a label.
  function label(text, most) {
    var letters = Array.from(String(text));
    var cut = letters.length > most ? letters.slice(0, most - 1).join("") + "…" : letters.join("");
    return cut.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }
  function show(value) {
    if (value === null || value === undefined) { return "–"; }
    if (typeof value === "string" || value === 0) { return String(value); }
    return Number(value).toPrecision(3).replace(/\.?0+(e|$)/, "$1");
  }
  function positive(value) { return typeof value === "number" && value > 0; }

  // Zeros are drawn open at the floor of the axis, NaN and inf at its ceiling: neither has a place on a log axis.
  function range(series) {
    var values = [].concat.apply([], series).filter(positive).map(Math.log10);
    var low = values.length ? Math.min.apply(null, values) : -16;
    var high = values.length ? Math.max.apply(null, values) : 0;
    return [Math.floor(low - 0.6), Math.ceil(high + 0.6)];
  }
  function traces(name, x, values, hover, span, style) {
    var floor = Math.pow(10, span[0] + 0.05 * (span[1] - span[0])), ceiling = Math.pow(10, span[1] - 0.05 * (span[1] - span[0]));
    function pick(test) { return x.map(function (_, i) { return i; }).filter(function (i) { return test(values[i]); }); }
    function trace(title, at, y, marker) {
      return {
        type: "scatter", mode: "markers", name: title, x: at.map(function (i) { return x[i]; }), y: y,
        text: at.map(function (i) { return hover[i]; }), hoverinfo: "text", marker: marker
      };
    }
    var list = [], sound = pick(positive), zero = pick(function (v) { return v === 0; });
    var strange = pick(function (v) { return typeof v === "string"; });
    if (sound.length) { list.push(trace(name, sound, sound.map(function (i) { return values[i]; }), style)); }
    if (zero.length) {
      list.push(trace(name + ": exactly 0 (at the floor)", zero, zero.map(function () { return floor; }),
        { symbol: style.symbol + "-open", size: style.size, color: style.color, line: { width: 2, color: style.color } }));
    }
    if (strange.length) {
      list.push(trace(name + ": NaN or inf (at the top)", strange, strange.map(function () { return ceiling; }),
        { symbol: "x", size: 11, color: "#d55e00" }));
    }
    return list;
  }
  function layout(span, xaxis, ytitle) {
    var style = getComputedStyle(document.body), line = style.getPropertyValue("--line");
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style.color, size: 12 },
      margin: { l: 64, r: 12, t: 12, b: 70 }, hovermode: "closest",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: Object.assign({ gridcolor: line, zeroline: false, automargin: true }, xaxis),
      yaxis: { type: "log", range: span, gridcolor: line, exponentformat: "power", dtick: Math.ceil((span[1] - span[0]) / 8), title: { text: ytitle } }
    };
  }
  var config = { displaylogo: false, responsive: true, displayModeBar: false };

  function elements(box, d) {
    var rows = d.elements, x = rows.map(function (_, i) { return i; });
    var span = range([rows.map(function (r) { return r[1]; }), rows.map(function (r) { return d.approximate ? null : r[2]; })]);
    var hover = rows.map(function (r) {
      return label(r[0], 60) + "<br>error " + show(r[1]) + (d.approximate ? "" : "<br>bound " + show(r[2]) + "<br>power " + show(r[4]) + "<br>error in " + label(d.dtype, 20) + " " + show(r[3]));
    });
    var list = [];
    if (!d.approximate) {
      list = list.concat(traces("bound", x, rows.map(function (r) { return r[2]; }), hover, span,
        { symbol: "line-ew", size: Math.max(10, Math.min(40, 500 / rows.length)), color: "#e69f00", line: { width: 3, color: "#e69f00" } }));
    }
    list = list.concat(traces("error", x, rows.map(function (r) { return r[1]; }), hover, span, { symbol: "circle", size: 9, color: "#2f86c9" }));
    var step = Math.ceil(rows.length / Math.max(4, Math.floor(box.clientWidth / 26)));
    var ticks = x.filter(function (i) { return i % step === 0; });
    Plotly.newPlot(box, list, layout(span, {
      title: { text: "element" }, tickvals: ticks, ticktext: ticks.map(function (i) { return label(rows[i][0], 14); }),
      range: [-0.6, rows.length - 0.4]
    }, "relative error"), config);
  }
  function resolutions(box, d) {
    var rows = d.resolutions, x = rows.map(function (r) { return r[0]; });
    var span = range([1, 2, 3].map(function (k) { return rows.map(function (r) { return r[k]; }); }));
    var list = [];
    [["error", "circle", "#2f86c9"], ["interpolation floor", "square", "#e69f00"], ["unconstrained control", "diamond", "#cc79a7"]].forEach(function (s, k) {
      var hover = rows.map(function (r) { return "size " + r[0] + "<br>" + s[0] + " " + show(r[k + 1]); });
      traces(s[0], x, rows.map(function (r) { return r[k + 1]; }), hover, span, { symbol: s[1], size: 9, color: s[2] }).forEach(function (t) {
        if (t.name === s[0]) { t.mode = "lines+markers"; t.line = { color: s[2] }; }
        list.push(t);
      });
    });
    Plotly.newPlot(box, list, layout(span, { title: { text: "grid size" }, type: "log", tickvals: x, ticktext: x.map(String) }, "relative error"), config);
  }
  function table(inner, d) {
    if (inner.querySelector("table")) { return; }
    var box = document.createElement("div"), grid = document.createElement("table");
    grid.className = "plain";
    [["element", "error", "bound", "error in " + d.dtype, "power"]].concat(d.elements).forEach(function (r, i) {
      var line = grid.insertRow();
      r.forEach(function (value, k) {
        var cell = document.createElement(i ? "td" : "th"), text = document.createElement("bdi");
        text.textContent = i && k ? show(value) : value;
        cell.appendChild(text);
        line.appendChild(cell);
      });
    });
    box.appendChild(grid);
    inner.appendChild(box);
  }
  function draw(check, again) {
    var d = data[check.id];
    if (!d || !check.open || (check.dataset.drawn && !again)) { return; }
    check.dataset.drawn = "1";
    check.querySelectorAll("[data-plot]").forEach(function (box) {
      box.textContent = " ";
      (box.dataset.plot === "elements" ? elements : resolutions)(box, d);
    });
    var inner = check.querySelector("[data-table]");
    if (inner) { inner.addEventListener("toggle", function () { table(inner, d); }); }
  }
  checks.forEach(function (check) { check.addEventListener("toggle", function () { draw(check, false); }); });
  query.addEventListener("change", function () { checks.forEach(function (check) { draw(check, true); }); });

  // A link to a check opens it.
  function follow() {
    var check = document.getElementById(location.hash.slice(1));
    if (check && check.matches("details.check")) { check.hidden = false; check.open = true; draw(check, false); check.scrollIntoView(); }
  }
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) { follow(); }
    var button = event.target.closest("button.copy");
    if (button) { copy(button); }
  });
  function copy(button) {
    var code = button.parentNode.querySelector("code");
    function select() {
      var range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    if (!navigator.clipboard) { select(); return; }
    navigator.clipboard.writeText(code.textContent).then(function () { button.textContent = "Copied"; }, select);
  }

  var filter = document.getElementById("filter"), only = document.getElementById("only");
  function sift() {
    var words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
    checks.forEach(function (check) {
      var text = (check.firstElementChild.textContent + " " + check.parentNode.firstElementChild.textContent).toLowerCase();
      check.hidden = (only.checked && (check.dataset.label === "PASS" || check.dataset.label === "EXPECTED")) || !words.every(function (w) { return text.indexOf(w) >= 0; });
      shown += check.hidden ? 0 : 1;
    });
    document.querySelectorAll(".implementation").forEach(function (s) { s.hidden = !s.querySelector("details.check:not([hidden])"); });
    document.getElementById("shown").textContent = shown === checks.length ? "" : shown + " of " + checks.length + " shown";
  }
  if (filter) {
    filter.addEventListener("input", sift);
    only.addEventListener("change", sift);
    document.getElementById("close").addEventListener("click", function () { checks.forEach(function (c) { c.open = false; }); });
  }
  follow();
})();
