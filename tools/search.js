// Shows the headings that hold every word of the search field. Without this script the field stays
// hidden: it would do nothing.
const form = document.querySelector(".search");
const entries = [...form.querySelectorAll("li")].map((item) => [item, item.textContent.toLowerCase()]);
form.hidden = false;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  form.querySelector("li:not([hidden]) a")?.click(); // Enter opens the first hit
});
form.querySelector("input").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  let hits = 0;
  for (const [item, text] of entries) {
    item.hidden = !words.length || !words.every((word) => text.includes(word));
    hits += !item.hidden;
  }
  const found = hits === 1 ? "1 heading" : `${hits || "No"} headings`;
  form.querySelector("p").textContent = words.length ? found : "";
});
