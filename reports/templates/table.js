// Every check as a table: DataTables sorts, searches and pages; the boxes above filter; the address holds the selection.
const FILTERS = ["label", "implementation", "property", "dtype"];
const RANKS = { FAIL: 0, UNSURE: 1, WARN: 2, EXPECTED: 3, PASS: 4, SKIP: 5 };
// Cells are elements, never markup. Search texts are escaped, because the library parses them as markup once.
function column(title, key, draw, order) {
  return {
    title, data: null, name: key, type: order ? "num" : "string", className: order ? "n" : "",
    orderSequence: order && key !== "label" ? ["desc", "asc", ""] : ["asc", "desc", ""], // the largest number first
    render: (check, kind) => (kind === "display" ? draw(check) : kind === "sort" || kind === "type" ? (order ? order(check) : escaped(check[key]).slice(0, 200)) : escaped(key === "label" ? check.label + " " + check.verdict : check[key] === undefined ? "" : check[key]))
  };
}
function magnitude(value) { return typeof value === "number" ? value : value === undefined || value === null ? -1 : 1e308; }
function number(title, key) { return column(title, key, (c) => show(c[key]), (c) => magnitude(c[key])); }
function columnsOf(checks) {
  const verdict = column("verdict", "label", (c) => make("a", { href: "#check/" + c.id, title: c.code }, chip(c.label, c.verdict)), (c) => RANKS[c.label]);
  verdict.className = "";
  const list = [verdict, column("implementation", "implementation", (c) => name(c.implementation)), column("property", "property", (c) => name(c.property)),
    column("case", "case", (c) => name(c.case || "–")), column("dtype", "dtype", (c) => c.dtype),
    number("error", "error"), number("bound", "bound"), number("ratio", "ratio"), number("power", "power")];
  if (checks.some((c) => c.since)) { list.push(column("fails since", "since", (c) => name(c.since || ""))); }
  return list;
}
async function checksTable(root, checks) {
  const $ = await tables(), chosen = {}, boxes = {};
  const status = make("span", { role: "status" });
  const grid = make("table", { class: "checks", style: "width:100%" }, make("caption", { class: "unseen" }, "Every check, worst first"));
  const tools = make("div", { class: "tools", role: "search" }, FILTERS.map((key) => {
    const values = distinct(checks.map((c) => c[key]));
    if (key === "label") { values.sort((a, b) => RANKS[a] - RANKS[b]); } else { values.sort(); }
    const box = select(key === "label" ? "verdict" : key, [["", "all"]].concat(values.map((v) => [v, String(v).slice(0, 60)])), "", (value) => { choose({ [key]: value }); keep(); });
    boxes[key] = box.querySelector("select");
    return box;
  }), make("button", { type: "button", id: "clear" }, "Show all"), status);
  root.append(tools, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every check" }, grid));
  const table = $(grid).DataTable({
    data: checks, columns: columnsOf(checks), order: [], deferRender: true, autoWidth: false, pageLength: 50, lengthMenu: [25, 50, 100, 500],
    createdRow: (row, check) => { row.className = check.label.toLowerCase(); row.id = "row-" + check.id; },
    language: { search: "Search", lengthMenu: "_MENU_ a page", info: "_START_ to _END_ of _TOTAL_ checks", infoFiltered: "(of _MAX_)", infoEmpty: "No check", zeroRecords: "No check matches. Show all, or search for something else." }
  });
  const choose = (wanted) => {
    Object.entries(wanted).forEach(([key, value]) => {
      if (key === "q") { table.search(value); return; }
      if (!(key in boxes)) { return; }
      chosen[key] = value;
      boxes[key].value = value;
      table.search.fixed(key, value ? (_, check) => check[key] === value : null);
    });
    table.draw();
    status.textContent = table.page.info().recordsDisplay + " of " + checks.length;
  };
  const keep = () => {
    const query = new URLSearchParams(Object.entries({ ...chosen, q: table.search() }).filter(([, value]) => value));
    history.replaceState(null, "", "#checks" + (String(query) ? "?" + query : ""));
  };
  const everything = Object.fromEntries(FILTERS.map((key) => [key, ""]).concat([["q", ""]]));
  tools.querySelector("#clear").addEventListener("click", () => { choose(everything); keep(); });
  table.on("search", () => { status.textContent = table.page.info().recordsDisplay + " of " + checks.length; });
  root.querySelector("input[type=search]").addEventListener("input", keep);
  return { show: (query) => choose({ ...everything, ...query }) };
}
