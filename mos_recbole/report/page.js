"use strict";

// A column's head sorts by the column, and the other way round the next time. Cells without a number come last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const number = (row) => parseFloat(row.cells[column].dataset.value);
    const text = (row) => row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (isNaN(x) && isNaN(y)) return sign * text(a).localeCompare(text(b), "en", {numeric: true});
      return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x < y ? -1 : x > y);
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }));
}
