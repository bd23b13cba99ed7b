"use strict";
{
  const rows = document.getElementById("rows");
  const all = [...rows.children];
  const [boxes, find, sort] = [[...document.querySelectorAll(".filters [type=checkbox]")], document.querySelector(".filters [type=search]"), document.querySelector(".filters select")];
  const show = () => {
    const states = new Set(boxes.filter(b => b.checked).map(b => b.value));
    const word = find.value.trim().toLowerCase();
    for (const row of all) row.hidden = !states.has(row.dataset.state) || !row.textContent.toLowerCase().includes(word);
  };
  const order = () => {
    const by = {id: (a, b) => a.dataset.id.localeCompare(b.dataset.id), rate: (a, b) => a.dataset.rate - b.dataset.rate}[sort.value];
    rows.append(...(by ? [...all].sort(by) : all));
  };
  const prompts = [...document.querySelectorAll(".columns summary")].map(s => s.textContent);
  const outcomes = {p: "passed", f: "failed", y: "flaky, both passed and failed", u: "not measured", " ": "not tried"};
  rows.addEventListener("pointermove", event => {
    const strip = event.target.closest(".strip");
    if (!strip) return;
    const [cells, box] = [strip.dataset.cells, strip.getBoundingClientRect()];
    const n = Math.max(0, Math.min(cells.length - 1, Math.floor(cells.length * (event.clientX - box.left) / box.width)));
    const title = strip.querySelector("title") ?? strip.appendChild(document.createElementNS(strip.namespaceURI, "title"));
    title.textContent = `${n + 1}. ${prompts[n]}; here: ${outcomes[cells[n]]}`;
  });
  for (const control of [...boxes, find, sort]) control.disabled = false;
  boxes.forEach(b => b.addEventListener("change", show));
  find.addEventListener("input", show);
  sort.addEventListener("change", order);
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      let copied = true;
      try { await navigator.clipboard.writeText(source.textContent); } catch {
        getSelection().selectAllChildren(source);
        copied = document.execCommand("copy");
      }
      button.textContent = copied ? "Copied" : "Selected";
    });
  }
}
