// Pictures: shades from blue through white to red, grey for NaN and infinities (ColorBrewer's RdBu, colour-blind safe).
const STOPS = [[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]];
const SHADES = 255, SIDE = 144, LEAST = 14;
function colour(shade) {
  if (shade >= SHADES) { return [128, 128, 128]; }
  const at = (shade / (SHADES - 1)) * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at)), part = at - low;
  return STOPS[low].map((value, i) => Math.round(value + part * (STOPS[low + 1][i] - value)));
}
const PALETTE = Array.from({ length: SHADES + 1 }, (_, shade) => colour(shade));
function shadesOf(panel) { return Uint8Array.from(atob(panel.data), (sign) => sign.charCodeAt(0)); }
function canvasOf(width, height, paint) {
  const canvas = make("canvas", { width, height, "aria-hidden": "true" }), context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const rgb = paint(x, y);
      if (rgb) { image.data.set([rgb[0], rgb[1], rgb[2], 255], 4 * (y * width + x)); }
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
function flat(panel) {
  const shades = shadesOf(panel), longest = Math.max(panel.rows, panel.columns, 1);
  const canvas = canvasOf(Math.max(1, panel.columns), Math.max(1, panel.rows), (x, y) => PALETTE[shades[y * panel.columns + x]]);
  canvas.style.width = Math.max(LEAST, Math.round((SIDE * panel.columns) / longest)) + "px";
  canvas.style.height = Math.max(LEAST, Math.round((SIDE * panel.rows) / longest)) + "px";
  return canvas;
}
// The sphere seen from 35 degrees above its equator; beta is measured from the north pole, alpha around the axis.
function globe(panel) {
  const shades = shadesOf(panel), tilt = (35 * Math.PI) / 180, sin = Math.sin(tilt), cos = Math.cos(tilt);
  const canvas = canvasOf(SIDE, SIDE, (px, py) => {
    const u = (2 * (px + 0.5)) / SIDE - 1, v = 1 - (2 * (py + 0.5)) / SIDE, rest = 1 - u * u - v * v;
    if (rest < 0) { return null; }
    const depth = Math.sqrt(rest), z = v * cos + depth * sin, x = depth * cos - v * sin;
    const beta = Math.acos(Math.max(-1, Math.min(1, z))) / Math.PI, alpha = (Math.atan2(u, x) / (2 * Math.PI) + 1) % 1;
    const row = Math.min(panel.rows - 1, Math.floor(beta * panel.rows)), column = Math.min(panel.columns - 1, Math.floor(alpha * panel.columns));
    return PALETTE[shades[row * panel.columns + column]];
  });
  canvas.className = "globe";
  return canvas;
}
// Points at their first two coordinates; the third coordinate sets the colour.
function cloud(panel) {
  const shades = shadesOf(panel), n = panel.columns, at = (row, i) => shades[row * n + i] / (SHADES - 1);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  Object.entries({ viewBox: "-8 -8 160 160", width: SIDE, height: SIDE, "aria-hidden": "true" }).forEach(([k, v]) => svg.setAttribute(k, v));
  for (let i = 0; i < n; i++) {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const values = { cx: 144 * at(0, i), cy: 144 * (1 - at(1, i)), r: 6, fill: "rgb(" + PALETTE[shades[2 * n + i]].join() + ")", stroke: "#888" };
    Object.entries(values).forEach(([k, v]) => svg.setAttribute(k, v));
    svg.append(dot);
  }
  return svg;
}
const KINDS = { volume: "the middle slice of the volume", sphere: "the sphere, and its map below", rotations: "SO(3), the slice γ = 0",
  cloud: "points at (x, y), coloured by z", channels: "channels down, points across", matrix: "a matrix, −1 blue to 1 red" };
const PLACES = { "x": "x", "g x": "gx", "f(g x)": "fgx", "f(x)": "fx", "g f(x)": "gfx", "f(g x) - g f(x)": "difference" };
function picture(panel) {
  const kind = KINDS[panel.kind] || "", limits = "colours ±" + show(panel.limit) + (panel.strange ? ", " + panel.strange + " NaN or inf (grey)" : "");
  const drawn = panel.kind === "sphere" ? [globe(panel), flat(panel)] : [panel.kind === "cloud" && panel.rows === 3 ? cloud(panel) : flat(panel)];
  const spoken = [panel.title, panel.caption, kind, limits].filter(Boolean).join(", ");
  return make("figure", { class: "at-" + (PLACES[panel.title] || "other") }, make("div", { role: "img", "aria-label": spoken }, drawn),
    make("figcaption", {}, make("b", {}, panel.title), panel.caption ? " " + panel.caption : "", make("small", {}, kind ? kind + "; " + limits : limits)));
}
function diagram(found) {
  const main = found.panels.filter((panel) => PLACES[panel.title]), rest = found.panels.filter((panel) => !PLACES[panel.title]);
  const commuting = main.length === 6;
  return make("section", { "aria-label": "The commuting diagram" }, make("h3", {}, "The commuting diagram at g = ", name(found.element)),
    make("p", { class: "hint" }, "Both paths from x must end in the same picture. One sample, one channel; f(x), g f(x) and f(g x) share one colour scale, the difference has its own. " + found.note),
    make("div", { class: commuting ? "diagram commuting" : "diagram" }, main.map(picture)),
    rest.length ? [make("p", { class: "hint" }, "Moving space alone is not enough: if the output has a fibre, g also mixes its channels."), make("div", { class: "diagram" }, rest.map(picture))] : []);
}
// The input is moved by g and the feature map is moved back: if the layer is equivariant, the feature map does not move.
function stabilised(found) {
  if (!found.rotated.length) { return null; }
  const stage = make("div", { class: "diagram", "aria-live": "polite" });
  const slider = make("input", { type: "range", min: 0, max: found.rotated.length - 1, value: 0, step: 1, "aria-label": "element" });
  const to = (i) => {
    slider.value = i;
    slider.setAttribute("aria-valuetext", found.rotated[i][0]);
    stage.replaceChildren(picture(found.rotated[i][1]), picture(found.rotated[i][2]), make("p", {}, "g = ", name(found.rotated[i][0])));
  };
  let clock = null;
  const play = make("button", { type: "button" }, "Play");
  const stop = () => { clearInterval(clock); clock = null; play.textContent = "Play"; };
  play.addEventListener("click", () => {
    if (clock) { stop(); return; }
    play.textContent = "Stop";
    clock = setInterval(() => { if (stage.isConnected) { to((Number(slider.value) + 1) % found.rotated.length); } else { stop(); } }, 700);
  });
  slider.addEventListener("input", () => { stop(); to(Number(slider.value)); });
  to(0);
  return make("section", { "aria-label": "Stabilised view" }, make("h3", {}, "Stabilised view"),
    make("p", { class: "hint" }, "The input moves with g; the feature map is moved back by g⁻¹. If the claim holds, the right picture does not move."),
    make("div", { class: "tools" }, slider, play), stage,
    make("details", { class: "inner" }, make("summary", {}, "All elements side by side"),
      make("div", { class: "diagram" }, found.rotated.map((turn) => make("div", {}, picture(turn[2]), make("small", {}, name(turn[0])))))));
}
