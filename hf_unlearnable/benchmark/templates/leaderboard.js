// Sorts a table by the column whose head is pressed, and filters by thief and defence: the worst case is then that of
// the thieves who are left. Where some of them have not tried a row it is a lower bound, and the row stands below others.
"use strict";
const number = cell => cell.dataset.value === undefined ? NaN : parseFloat(cell.dataset.value);
function sortBy(head, downwards) {
  const table = head.closest("table"), body = table.tBodies[0];
  const rows = [...body.rows], place = head.cellIndex;
  rows.sort((a, b) => {
    const [x, y] = [a.cells[place], b.cells[place]];
    if (!("value" in x.dataset) && !("value" in y.dataset)) {
      const order = x.textContent.trim().localeCompare(y.textContent.trim());
      return downwards ? -order : order;
    }
    const [p, q] = [number(x), number(y)];
    if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);  // gaps last, whichever way
    const [u, v] = [x, y].map(cell => "bound" in cell.dataset);
    return u - v || (downwards ? q - p : p - q);
  });
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
  body.append(...rows);
}
function filter(section) {
  const [victim, defence] = [...section.querySelectorAll("select")].map(select => select.value);
  const best = new Map();
  for (const line of section.querySelectorAll("tr[data-row]")) {
    line.hidden = (victim && line.dataset.victim !== victim) || (defence && line.dataset.defence !== defence);
    const share = parseFloat(line.dataset.share), row = line.dataset.row;
    if (!line.hidden && !(best.has(row) && (isNaN(share) || best.get(row).share >= share))) best.set(row, {share, line});
  }
  for (const row of section.querySelectorAll("tr[data-name]")) {
    const found = best.get(row.dataset.name), cells = row.querySelectorAll("[data-of]");
    const bound = JSON.parse(row.dataset.missing).some(([v, d]) => (!victim || v === victim) && (!defence || d === defence));
    for (const cell of cells) {
      const from = found && found.line.querySelector(`[data-is="${cell.dataset.of}"]`);
      cell.innerHTML = from ? from.innerHTML : "– <span class=\"badge not-measured\">not measured</span>";
      if (cell.dataset.of === "share") cell.toggleAttribute("data-bound", bound);
      if ("bound" in cell.dataset) {  // others may do better: nobody says that it holds
        cell.innerHTML = cell.innerHTML.replace("<b>", "<b>≥ ").replace(/<span class="badge (holds|leaks)">.*?<\/span>/, "");
      }
      if ("value" in cell.dataset) cell.dataset.value = from ? from.dataset.value : NaN;
    }
  }
  sortBy(section.querySelector("th.worst"), false);
}
for (const head of document.querySelectorAll("thead th button")) {
  head.addEventListener("click", () => {
    const cell = head.closest("th");
    sortBy(cell, cell.getAttribute("aria-sort") === "ascending");
  });
}
for (const section of document.querySelectorAll("section.table")) {
  for (const select of section.querySelectorAll("select")) select.addEventListener("change", () => filter(section));
}
