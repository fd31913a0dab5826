"use strict";
// A column sorts by what its cells hold unrounded. What has no value, and what is wrong, stays below in either order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[head.cellIndex].dataset.value ?? "";
    const apart = row => (row.classList.contains("wrong") ? 2 : 0) + (value(row) === "" ? 1 : 0);
    const order = (a, b) => head.dataset.kind === "number" ? a - b : a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => apart(a) - apart(b) || (down ? -1 : 1) * order(value(a), value(b)));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
