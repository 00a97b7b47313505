"use strict";
// Makes pages live: choices that submit themselves, codes that do, a page that fetches itself when
// the server says that something changed, and codes as a file. Every page works without it.
document.documentElement.classList.add("js");
for (const field of document.querySelectorAll("[data-auto]"))
  field.addEventListener("change", () => field.form.requestSubmit());
for (const form of document.querySelectorAll("form[data-submit]")) {
  const code = form.querySelector("input.code");
  code.addEventListener("input", () => {
    const text = code.value.replace(/\s/g, "");
    if (/^\d+$/.test(text) && text.length === Number(form.dataset.submit)) form.requestSubmit();
  });
}
// Passkeys: the server says what to ask the authenticator, the form takes its answer there.
const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
for (const form of document.querySelectorAll("form[data-passkey]")) {
  const button = form.querySelector("button"), failed = form.querySelector("[role=alert]");
  const make = !form.elements.signature;
  let answered = false;
  form.addEventListener("submit", async (event) => {
    if (answered) return;
    event.preventDefault();
    button.disabled = true;
    failed.hidden = true;
    try {
      const asked = await fetch(form.dataset.passkey, { method: "POST" });
      if (asked.redirected) { location.assign(asked.url); return; }
      if (!asked.ok) throw new Error();
      const options = await asked.json();
      options.challenge = toBytes(options.challenge);
      for (const one of options.allowCredentials || options.excludeCredentials) one.id = toBytes(one.id);
      if (make) options.user.id = toBytes(options.user.id);
      const made = await navigator.credentials[make ? "create" : "get"]({ publicKey: options });
      const answer = made.response;
      const put = (name, bytes) => { form.elements[name].value = toText(bytes); };
      put("client", answer.clientDataJSON);
      put("data", make ? answer.getAuthenticatorData() : answer.authenticatorData);
      if (!make) { put("id", made.rawId); put("signature", answer.signature); }
      answered = true;
      form.requestSubmit();
    } catch (_) {
      failed.hidden = false;
    }
    button.disabled = false;
  });
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
// A long navigation shows where one is.
const here = document.querySelector(".console > nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2 + here.offsetWidth / 2;
const live = document.getElementById("live");
if (live && window.EventSource) {
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    // Whoever types into the page is not disturbed.
    const active = document.activeElement;
    if (live.contains(active) && active.matches("input:not([type=hidden])")) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "x-live": "1" } });
      if (answer.redirected) { location.reload(); return; }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("live");
        const id = document.activeElement && document.activeElement.id;
        if (fresh) live.replaceChildren(...fresh.childNodes);
        if (id && live.querySelector("#" + CSS.escape(id))) document.getElementById(id).focus();
        live.dataset.fresh = String(Date.now());
      }
    } catch (_) { /* the next event tries again */ }
    busy = false;
    if (again) { again = false; refresh(); }
  };
  new EventSource(live.dataset.events).addEventListener("change", refresh);
}
