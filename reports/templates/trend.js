// The trend page has one view.
(async () => {
  const root = document.getElementById("series");
  if (root) { await trendsView(root, await unpackData("data")); }
  document.body.dataset.view = "overview"; // marks the page as completely drawn
})();
