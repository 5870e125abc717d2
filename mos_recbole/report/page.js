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

// Above a table there is a choice for each column whose words repeat; rows with other words are hidden.
const most = 60;
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const rows = [...table.tBodies[0].rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const choices = [];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const values = [...new Set(rows.map((row) => text(row, column)))];
    if (!head.classList.contains("text") || values.length < 2 || values.length > most || values.length === rows.length) return;
    const select = document.createElement("select");
    select.append(new Option("every row"), ...values.map((value) => new Option(value)));
    select.addEventListener("change", () => {
      const given = choices.filter((choice) => choice.select.selectedIndex > 0);
      rows.forEach((row) => {
        row.hidden = given.some((choice) => text(row, choice.column) !== choice.values[choice.select.selectedIndex - 1]);
      });
    });
    choices.push({column, values, select});
  });
  if (choices.length === 0) continue;
  const bar = document.createElement("div");
  bar.className = "choices";
  choices.forEach((choice) => {
    const label = document.createElement("label");
    label.append(table.tHead.rows[0].cells[choice.column].textContent, " ", choice.select);
    bar.append(label);
  });
  table.parentElement.before(bar);
}
