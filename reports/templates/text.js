// Elements and texts. Every name reaches the page through textContent, so it is always text and never markup.
function make(tag, attributes) {
  const element = document.createElement(tag);
  Object.entries(attributes || {}).forEach(([name, value]) => {
    if (value !== null && value !== undefined && value !== false) { element.setAttribute(name, value); }
  });
  Array.prototype.slice.call(arguments, 2).flat().forEach((child) => {
    if (child !== null && child !== undefined) { element.append(child); }
  });
  return element;
}
// A name of any direction and length, isolated so that it does not reorder the text around it.
function name(text) { return make("bdi", { class: "name" }, String(text)); }
function show(value) {
  if (value === null || value === undefined) { return "–"; }
  if (typeof value === "string" || value === 0) { return String(value); }
  const text = Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6 ? Number(value).toExponential(2) : Number(value).toPrecision(3);
  return text.includes(".") ? text.replace(/\.?0+(e|$)/, "$1") : text;
}
function duration(seconds) {
  if (typeof seconds !== "number") { return show(seconds); }
  if (seconds >= 1) { return show(seconds) + " s"; }
  return seconds >= 1e-3 ? show(1e3 * seconds) + " ms" : show(1e6 * seconds) + " µs";
}
// The plotting library interprets some markup in labels: names are escaped and cut to the length of a label.
function label(text, most) {
  const letters = Array.from(String(text));
  return escaped(letters.length > most ? letters.slice(0, most - 1).join("") + "…" : letters.join(""));
}
function escaped(text) { return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); }
const SIGNS = { FAIL: "✗", UNSURE: "?", WARN: "!", EXPECTED: "≠", PASS: "✓", SKIP: "–" };
function chip(kind, verdict) {
  return make("span", { class: "chip " + kind.toLowerCase() }, make("b", {}, SIGNS[kind] + " " + kind), verdict ? " " + verdict : "");
}
function distinct(values) { return Array.from(new Set(values)); }
function plainTable(head, rows, caption) {
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", { class: "plain" },
      make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, cell)))))));
}
function select(title, options, chosen, changed) {
  const box = make("select", { "aria-label": title }, options.map(([value, text]) => make("option", { value }, text)));
  box.value = chosen;
  box.addEventListener("change", () => changed(box.value));
  return make("label", {}, title + " ", box);
}
