// The fragment of the address selects the view: #overview, #checks?property=parity, #implementation/NAME, #check/ID.
const views = Array.from(document.querySelectorAll(".view")), heading = document.title;
const loaded = once(() => unpackData("data")), drawings = once(() => unpackData("pictures"));
const meanings = once(async () => (await loaded()).meanings);
const ready = {
  checks: once(async () => checksTable(document.getElementById("table"), (await loaded()).checks)),
  errors: once(async () => errorsView(document.getElementById("error-plots"), (await loaded()).checks)),
  throughput: once(async () => { const data = await loaded(); return measuredView(document.getElementById("cost-plots"), data.measurements, data.ceilings); }),
  validity: once(async () => { const root = document.getElementById("maps"); root.append.apply(root, (await loaded()).maps.map(validityPlot)); return drawWithin(root); }),
  trends: once(async () => trendsView(document.getElementById("series"), (await loaded()).trend))
};
function errorsView(root, checks) {
  const state = { implementation: "", property: "", parameter: "dtype", quantity: "ratio" }, place = make("div", {}), pairs = (values) => values.map((v) => [v, String(v).slice(0, 60)]);
  const parameters = distinct(checks.flatMap((check) => Object.keys(parametersOf(check))));
  const draw = () => {
    const own = checks.filter((c) => (!state.implementation || c.implementation === state.implementation) && (!state.property || c.property === state.property));
    place.replaceChildren(make("h3", {}, "Against " + state.parameter), scatterPlot(own, state.parameter, state.quantity),
      make("h3", {}, "Against resolution"), make("p", { class: "hint" }, "Approximate claims: the error falls as the grid gets finer."), linesPlot("Error against resolution", own, byResolution, "grid size"),
      make("h3", {}, "Against depth"), make("p", { class: "hint" }, "Stacks of one layer: the error must not grow faster than rounding."), linesPlot("Error against depth", own, byDepth, "layers in a row"));
    return drawWithin(place);
  };
  const change = (key) => (value) => { state[key] = value; draw(); };
  root.append(make("div", { class: "tools" },
    select("implementation", [["", "all"]].concat(pairs(distinct(checks.map((c) => c.implementation)).sort())), "", change("implementation")),
    select("property", [["", "all"]].concat(pairs(distinct(checks.map((c) => c.property)).sort())), "", change("property")),
    select("of", [["ratio", "error / bound"], ["error", "error"], ["seen", "error in the dtype"], ["power", "power"]], "ratio", change("quantity")),
    select("against", pairs(parameters), "dtype", change("parameter"))), place);
  return draw();
}
async function opened(view, rest, query) {
  const place = document.getElementById(view), content = place.querySelector(".content");
  if (view === "check") {
    const data = await loaded(), check = data.checks.find((c) => c.id === rest);
    content.replaceChildren.apply(content, check ? checkView(check, await drawings(), await meanings()) : [make("h2", { tabindex: "-1" }, "No such check"),
      make("p", {}, "This run did not make the check, or the check's case has a new name. ", make("a", { href: "#checks" }, "Every check"))]);
    return drawWithin(content);
  }
  if (view === "implementation") {
    content.replaceChildren.apply(content, implementationView(rest, await loaded(), await drawings()));
    return drawWithin(content);
  }
  if (view === "checks") { return (await ready.checks()).show(Object.fromEntries(new URLSearchParams(query))); }
  return ready[view] ? ready[view]() : null;
}
function decoded(text) { try { return decodeURIComponent(text); } catch (error) { return text; } }
async function follow(first) {
  const hash = location.hash.slice(1), [path, query] = [hash.split("?")[0], hash.split("?").slice(1).join("?")];
  const slash = path.indexOf("/"), wanted = slash < 0 ? path : path.slice(0, slash), rest = slash < 0 ? "" : decoded(path.slice(slash + 1));
  const inside = document.getElementById(wanted), view = (inside && inside.closest(".view")) || views[0];
  views.forEach((other) => { other.hidden = other !== view; });
  document.querySelectorAll(".tabs a").forEach((tab) => { if (tab.hash === "#" + view.id) { tab.setAttribute("aria-current", "page"); } else { tab.removeAttribute("aria-current"); } });
  try { await opened(view.id, rest, query); } catch (error) { view.append(make("p", { class: "note", role: "alert" }, "This view could not be drawn: " + error.message)); throw error; }
  const title = view.querySelector("h1, h2");
  document.title = view === views[0] ? heading : title.textContent.slice(0, 120) + ": " + heading;
  if (inside && inside !== view) { inside.scrollIntoView(); } else if (!first || hash) { window.scrollTo(0, 0); if (title.tabIndex === -1) { title.focus({ preventScroll: true }); } }
  document.body.dataset.view = hash || view.id; // marks the view as completely drawn
}
document.documentElement.classList.add("scripted");
window.addEventListener("hashchange", () => follow(false));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawWithin(document));
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) { copied(button); }
});
follow(true);
