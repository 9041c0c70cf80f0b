// One check: its numbers, the command that repeats it, and its pictures.
function fact(title, value, wide) { return make("div", { class: wide ? "wide" : null }, make("dt", {}, title), make("dd", {}, value)); }
function codeBox(text) {
  const button = make("button", { type: "button", class: "copy" }, "Copy");
  return make("div", { class: "code" }, make("pre", { tabindex: "0", dir: "ltr" }, make("code", {}, text)), button);
}
function copied(button) {
  const code = button.parentNode.querySelector("code");
  const choose = () => { getSelection().selectAllChildren(code); button.textContent = "Selected"; };
  if (!navigator.clipboard) { choose(); return; }
  navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = "Copied"; }, choose);
}
function numbersOf(check) {
  const [samples, seed, device, seconds, inside] = check.run;
  return make("dl", { class: "numbers" },
    check.group ? fact("claim", [name(check.group), ": ", name(check.source), " → ", name(check.target)], true) : null,
    check.case ? fact("case", name(check.case), true) : null,
    fact("error", show(check.error)), fact("bound", show(check.bound)), fact("ratio: error / bound", show(check.ratio)),
    fact("power", [show(check.power), positive(check.power) ? make("small", {}, "detects faults down to " + show(1 / check.power) + " of a wrong action") : null]),
    fact("worst element", [name(check.element || "–"), check.leaf ? [" in ", name(check.leaf)] : []].flat()),
    fact("lost bits", show(check.lost_bits)), fact("error in " + check.dtype, show(check.seen)), fact("rounding in " + check.dtype, show(check.precision)),
    fact("largest entry's error", show(check.error_max)), fact("condition κ", show(check.kappa)), fact("defect of the action", show(check.defect)),
    fact("samples, seed, device", [samples, seed, device].join(", ")),
    fact("time", [duration(seconds), make("small", {}, duration(inside) + " in the layer")]));
}
function partsOf(check) {
  return [make("h3", {}, "Parts"),
    make("p", { class: "hint" }, "The steps of this check. A part called control must not hold: it shows that the check can fail."),
    plainTable(["property", "verdict", "error", "bound", "ratio", "power", "reason"],
      check.parts.map((p) => [name(p.property), chip(p.label, p.verdict), show(p.error), show(p.bound), show(p.ratio), show(p.power), name(p.message)]), "Parts")];
}
function resolutionsOf(check) {
  const words = ["The error should fall as the grid gets finer. The interpolation floor is the error of the action itself on this grid; the control is a layer without the constraint."];
  if (check.gain !== null) { words.push("Gain: the error of the control is " + show(check.gain) + " times that of the layer."); }
  if (check.limit) { words.push("Limit of fine grids: " + show(check.limit[0]) + " to " + show(check.limit[1]) + "."); }
  if (check.order !== null) { words.push("Order of convergence: " + show(check.order) + "."); }
  return [make("h3", {}, "Error over resolutions"), make("p", { class: "hint" }, words.join(" ")),
    plainTable(["size", "error", "interpolation floor", "unconstrained control"], check.resolutions.map((r) => r.map(show)), "Error over resolutions"),
    resolutionPlot(check)];
}
function wavelengthsOf(check) {
  const words = ["The error of waves at the pixel that the element keeps, relative to the output."];
  if (check.separation !== null) { words.push("The nearest wrong action leaves " + show(check.separation) + " times more."); }
  if (check.share !== null) { words.push("Share of its error that stays for long waves: " + show(check.share) + "."); }
  if (check.order !== null) { words.push("The share falls like wavelength^-" + show(check.order) + "."); }
  if (check.gain !== null) { words.push("Gain: the error of a layer without the constraint is " + show(check.gain) + " times that of the layer."); }
  return [make("h3", {}, "Error by wavelength"), make("p", { class: "hint" }, words.join(" ")),
    plainTable(["wavelength in pixels", "error"], check.wavelengths.map((r) => r.map(show)), "Error by wavelength")];
}
function elementsOf(check) {
  const inner = make("details", { class: "inner" }, make("summary", {}, "The same numbers as a table"));
  inner.addEventListener("toggle", () => {
    if (!inner.querySelector("table")) {
      inner.append(plainTable(["element", "error", "bound", "error in " + check.dtype], check.elements.map((r) => [name(r[0]), show(r[1]), show(r[2]), show(r[3])]), "Errors of the elements"));
    }
  });
  return [make("h3", {}, check.resolutions || check.wavelengths ? "Error of each element" : "Error against bound for each element"), elementPlot(check), inner];
}
function checkView(check, pictures, meanings) {
  const found = check.picture === undefined ? null : pictures[check.picture];
  return [
    make("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, make("a", { href: "#overview" }, "Overview"), " › ",
      make("a", { href: "#implementation/" + encodeURIComponent(check.implementation) }, name(check.implementation)), " › ",
      make("a", { href: "#checks?implementation=" + encodeURIComponent(check.implementation) + "&property=" + encodeURIComponent(check.property) }, name(check.property)), " › ", check.dtype),
    make("h2", { tabindex: "-1" }, name(check.property), " of ", name(check.implementation), ", " + check.dtype),
    make("p", {}, chip(check.label, check.verdict), check.since ? [" since ", name(check.since)] : []),
    make("p", { class: "reason" }, make("b", {}, check.code), ": ", name(check.message || meanings[check.verdict])),
    check.expected ? make("p", { class: "reason" }, make("b", {}, "Declared: "), name(check.contradiction || check.expected)) : null,
    numbersOf(check),
    check.reproduce ? [make("h3", {}, "Repeat this check"), codeBox(check.reproduce)] : [],
    found ? [diagram(found), stabilised(found)] : [],
    check.elements ? elementsOf(check) : [], check.resolutions ? resolutionsOf(check) : [],
    check.wavelengths ? wavelengthsOf(check) : [], check.parts ? partsOf(check) : []
  ].flat().filter(Boolean);
}
// One implementation: its properties, failures, pictures, errors and costs.
function implementationView(title, data, pictures) {
  const own = data.checks.filter((check) => check.implementation === title);
  const properties = distinct(own.map((check) => check.property)), dtypes = distinct(own.map((check) => check.dtype)).sort();
  const worst = (property, dtype) => own.find((check) => check.property === property && check.dtype === dtype);
  const cell = (property, dtype) => {
    const check = worst(property, dtype), all = own.filter((c) => c.property === property && c.dtype === dtype);
    if (!check) { return "not checked"; }
    const query = { implementation: title, property, dtype };
    const link = all.length === 1 ? "#check/" + check.id : "#checks?" + new URLSearchParams(query);
    return make("a", { href: link }, chip(check.label, check.verdict), all.length === 1 ? " 1 check" : " " + all.length + " checks");
  };
  const rotated = own.find((check) => check.picture !== undefined && pictures[check.picture].rotated.length);
  const drawn = own.find((check) => check.picture !== undefined && check.property === "equivariance") || own.find((check) => check.picture !== undefined);
  const figures = (data.measurements || []).filter((m) => m.implementation === title);
  const maps = (data.maps || []).filter((map) => map.name === title);
  return [
    make("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, make("a", { href: "#overview" }, "Overview"), " › ", name(title)),
    make("h2", { tabindex: "-1" }, name(title)),
    make("p", {}, ["FAIL", "UNSURE", "WARN", "EXPECTED", "PASS", "SKIP"].flatMap((kind) => {
      const count = own.filter((check) => check.label === kind).length;
      return count ? [chip(kind, String(count)), " "] : [];
    }), make("a", { href: "#checks?implementation=" + encodeURIComponent(title) }, "all " + own.length + " as a table")),
    make("h3", {}, "Worst verdict of each property"),
    plainTable(["property"].concat(dtypes), properties.map((p) => [name(p)].concat(dtypes.map((d) => cell(p, d)))), "Properties"),
    rotated ? stabilised(pictures[rotated.picture]) : null,
    drawn ? [diagram(pictures[drawn.picture]), make("p", {}, make("a", { href: "#check/" + drawn.id }, "The check of this picture"))] : [],
    make("h3", {}, "Error / bound"), scatterPlot(own, "dtype", "ratio"),
    own.some((c) => c.resolutions) ? [make("h3", {}, "Error against resolution"), linesPlot("Error against resolution", own, byResolution, "grid size")] : [],
    own.some((c) => byDepth(c).length) ? [make("h3", {}, "Error against depth"), linesPlot("Error against depth", own, byDepth, "layers in a row")] : [],
    figures.length ? [make("h3", {}, "What it costs"), plainTable(["operator", "quantity", "value", "dtype", "setting"],
      figures.map((m) => [name(m.operator), m.quantity, unitOf(m), m.dtype, m.setting]), "Figures")] : [],
    maps.length ? [make("h3", {}, "Where it is equivariant")].concat(maps.map(validityPlot)) : []
  ].flat().filter(Boolean);
}
function byResolution(check) { return (check.resolutions || []).map((r) => [r[0], r[1]]); }
// Stacks of one layer: the elements of these checks are called "depth 1", "depth 2" and so on.
function byDepth(check) {
  return (check.elements || []).map((e) => [/^depth (\d+)$/.exec(e[0]), e[1]]).filter(([found]) => found).map(([found, error]) => [Number(found[1]), error]);
}
