// Finds what keeps people from using a page: controls without a name, contrast below WCAG's 4.5,
// a page wider than its window, ids that are not unique, headings that skip, no language.
const found = [];
const name = (node) =>
  (node.getAttribute("aria-label") || (node.labels && [...node.labels].map((l) => l.textContent).join(" ")) || node.textContent || "").trim();
for (const node of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea"))
  if (!name(node)) found.push("without a name: " + node.outerHTML.slice(0, 90));
if (!document.documentElement.lang) found.push("no language");
if (document.documentElement.scrollWidth > window.innerWidth + 1)
  found.push("wider than its window: " + document.documentElement.scrollWidth);
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push("twice: #" + id);
if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
if (!document.querySelector("main")) found.push("no main");
for (const table of document.querySelectorAll("table"))
  if (!table.querySelector("th[scope]")) found.push("a table without headings");
const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement;
  if (!walk.currentNode.textContent.trim() || seen.has(node) || node.closest("svg, script, .hidden, .skip, option")) continue;
  seen.add(node);
  if (!node.getClientRects().length) continue;
  const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) found.push("contrast " + contrast.toFixed(2) + ": " + node.outerHTML.slice(0, 90));
}
return found;
