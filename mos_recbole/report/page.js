"use strict";

// Tables: a column's head sorts by the column, and the other way round the next time. Cells without a number come last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => {
      const cell = row.cells[column];
      return {number: parseFloat(cell.dataset.value), text: cell.textContent.trim()};
    };
    const compare = (a, b) => {
      if (isNaN(a.number) || isNaN(b.number)) {
        if (isNaN(a.number) && isNaN(b.number)) {
          return (down ? -1 : 1) * a.text.localeCompare(b.text, "en", {numeric: true});
        }
        return isNaN(a.number) - isNaN(b.number);
      }
      return (down ? -1 : 1) * (a.number - b.number);
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort((a, b) => compare(a[0], b[0]));
    body.append(...rows.map((row) => row[1]));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }));
}

// Figures: the viewer shows one as large as fits. x and y are where its corner is, scale how large it is.
const viewer = document.getElementById("viewer");
const stage = viewer.querySelector(".stage");
const image = stage.querySelector("img");
const view = {x: 0, y: 0, scale: 1, least: 0.1};
const pointers = new Map();

function show() {
  image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
}

function fit() {
  const [width, height] = [image.width, image.height];
  view.scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  view.least = view.scale / 4;
  view.x = (stage.clientWidth - width * view.scale) / 2;
  view.y = (stage.clientHeight - height * view.scale) / 2;
  show();
}

// Enlarges around a point of the stage, which stays where it is.
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, view.least), view.least * 200);
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  show();
}

for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    const source = button.firstElementChild;
    image.src = source.src;
    image.alt = source.alt;
    image.width = source.getAttribute("width");
    image.height = source.getAttribute("height");
    viewer.setAttribute("aria-label", button.getAttribute("aria-label"));
    viewer.showModal();
    fit();
  });
}
viewer.querySelector(".bar").addEventListener("click", ({target}) => {
  if (target.dataset.zoom) zoom(parseFloat(target.dataset.zoom));
  if ("fit" in target.dataset) fit();
  if ("close" in target.dataset) viewer.close();
});
viewer.addEventListener("close", () => pointers.clear());
viewer.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40]}[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "+" || event.key === "=") zoom(1.25);
  else if (event.key === "-") zoom(0.8);
  else if (event.key === "0") fit();
  else if (step) { view.x += step[0]; view.y += step[1]; show(); }
  else return;
  event.preventDefault();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, {passive: false});

// One pointer moves the figure, two enlarge it.
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
});
stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY];
  pointers.set(event.pointerId, now);
  if (pointers.size === 1) {
    view.x += now[0] - before[0];
    view.y += now[1] - before[1];
    show();
  } else if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const box = stage.getBoundingClientRect();
    const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
    view.x += (now[0] - before[0]) / 2;
    view.y += (now[1] - before[1]) / 2;
    zoom(apart(now) / Math.max(apart(before), 1), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
  }
});
for (const end of ["pointerup", "pointercancel"]) {
  stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
}
window.addEventListener("resize", () => { if (viewer.open) fit(); });
