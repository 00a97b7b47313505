"use strict";
// Makes the pages live: states that the server sends, codes that submit themselves, Escape that closes.
// Every page works without it.
document.documentElement.classList.add("js");
const live = document.getElementById("live");
const told = document.getElementById("told");
const traffic = new Map();
const states = new Map();
const path = (points, width, height, top) =>
  points.map((value, at) => (at ? "L" : "M") + ((at * width) / 59).toFixed(1) + " " + (height - 2 - (value / top) * (height - 4)).toFixed(1)).join("");
const draw = () => {
  const words = [];
  for (const place of live.querySelectorAll(".place")) {
    const { key, name, state, rx, tx } = place.dataset;
    if (states.has(key) && states.get(key) !== state) words.push(name + ": " + state);
    states.set(key, state);
    const box = place.querySelector("[data-flow]");
    if (!box) { traffic.delete(key); continue; }
    const past = traffic.get(key) || { rx: +rx, tx: +tx, flows: [] };
    past.flows.push([Math.max(0, rx - past.rx), Math.max(0, tx - past.tx)]);
    past.flows = past.flows.slice(-60);
    Object.assign(past, { rx: +rx, tx: +tx });
    traffic.set(key, past);
    const top = Math.max(1024, ...past.flows.flat());
    if (past.flows.length < 2) continue;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 600 44");
    svg.setAttribute("preserveAspectRatio", "none");
    for (const [kind, way] of [["fill rx", 0], ["rx", 0], ["tx", 1]]) {
      const line = document.createElementNS(svg.namespaceURI, "path");
      const points = past.flows.map((flow) => flow[way]);
      const end = (((points.length - 1) * 600) / 59).toFixed(1);
      line.setAttribute("class", kind);
      line.setAttribute("d", path(points, 600, 44, top) + (kind.startsWith("fill") ? "L" + end + " 44L0 44Z" : ""));
      svg.append(line);
    }
    box.replaceChildren(svg);
  }
  if (words.length && told) told.textContent = words.join(". ");
};
if (live) {
  draw();
  const events = new EventSource(live.dataset.events);
  events.addEventListener("look", (event) => {
    const id = document.activeElement && document.activeElement.id;
    const fresh = new DOMParser().parseFromString(event.data, "text/html").body;
    live.replaceChildren(...fresh.childNodes);
    draw();
    if (id && live.querySelector("#" + CSS.escape(id))) document.getElementById(id).focus();
  });
}
for (const form of document.querySelectorAll("form[data-submit]")) {
  const code = form.querySelector("input.code");
  const send = () => {
    const text = code.value.replace(/[\s-]/g, "");
    if (!/^\d+$/.test(text) || text.length !== Number(form.dataset.submit)) return;
    code.value = text;
    form.requestSubmit();
  };
  code.addEventListener("input", send);
  form.addEventListener("submit", (event) => {
    if (form.classList.contains("busy")) event.preventDefault();
    form.classList.add("busy");
    code.readOnly = true;
  });
}
addEventListener("keydown", (event) => {
  const close = document.getElementById("close");
  if (event.key === "Escape" && close) close.click();
});
for (const button of document.querySelectorAll("[data-wait]")) {
  const words = button.textContent;
  let left = Number(button.dataset.wait);
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? words + " (in " + left + " s)" : words;
    if (left-- > 0) setTimeout(tick, 1000);
  };
  tick();
}
for (const button of document.querySelectorAll("[data-download]"))
  button.addEventListener("click", () => {
    const lines = [...document.querySelectorAll(button.dataset.download + " code")].map((c) => c.textContent);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/plain" }));
    link.download = "recovery-codes.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  });
