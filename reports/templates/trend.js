// The trend page: one view alone.
(async () => {
  const root = document.getElementById("series");
  if (root) { await trendsView(root, await unpackData("data")); }
  document.body.dataset.view = "overview"; // says that all is drawn
})();
