// A link's secret stands behind the `#`, which a browser never sends: it is taken out of the address and posted.
const form = document.getElementById("by-link");
const secret = location.hash.slice(1);
if (secret) {
  history.replaceState(null, "", location.pathname);
  form.elements.link.value = secret;
  form.requestSubmit();
}
