// Sends what a form says, and shows the answer. Text only: an answer is never taken for markup.
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let path = form.dataset.path;
    const query = new URLSearchParams();
    const headers = { Authorization: `Bearer ${document.getElementById("token").value}` };
    for (const field of form.querySelectorAll("[data-in]")) {
      if (field.value === "") continue;
      if (field.dataset.in === "path") {
        path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
      } else if (field.dataset.in === "header") {
        headers[field.name] = field.value;
      } else {
        query.set(field.name, field.value);
      }
    }
    const options = { method: form.dataset.verb, headers, credentials: "omit" };
    if (form.elements.body) {
      headers["Content-Type"] = "application/json";
      options.body = form.elements.body.value;
    }
    const out = form.querySelector("pre");
    out.hidden = false;
    out.textContent = "…";
    try {
      const answer = await fetch(query.size ? `${path}?${query}` : path, options);
      let text = await answer.text();
      try {
        text = JSON.stringify(JSON.parse(text), null, 2);
      } catch {
        // Not JSON: shown as it is.
      }
      const tag = answer.headers.get("ETag");
      out.textContent = `${answer.status} ${answer.statusText}${tag ? `\nETag: ${tag}` : ""}\n\n${text}`;
    } catch (error) {
      out.textContent = `The server was not reached: ${error.message}`;
    }
  });
}
