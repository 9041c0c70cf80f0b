// The page holds its data and libraries compressed; each is unpacked on first use.
async function unpack(id) {
  const element = document.getElementById(id);
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
async function unpackData(id) { return JSON.parse(await unpack(id)); }
async function asAddress(id) { return URL.createObjectURL(new Blob([await unpack(id)], { type: "text/javascript" })); }
function once(load) { let promise = null; return () => (promise = promise || load()); }

const plotting = once(async () => {
  const script = document.createElement("script");
  script.src = await asAddress("plotly-packed");
  await new Promise((done, failed) => {
    script.onload = done;
    script.onerror = () => failed(new Error("the plotting library did not start. Reload the page, or open it in another browser"));
    document.head.append(script);
  });
  return window.Plotly;
});
const tables = once(async () => (await import(await asAddress("tables-packed"))).jQuery);
