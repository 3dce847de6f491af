"use strict";
// Sort a table by a column: numbers from the highest, then text; the next press turns it round.
const number = (cell) => parseFloat(cell.textContent.trim().replace("\u2212", "-").replaceAll(",", ""));
function sort(head, column) {
  const body = head.closest("table").tBodies[0], rows = [...body.rows];
  const up = head.ariaSort ? head.ariaSort === "descending" : !head.classList.contains("number");
  head.parentElement.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
  head.ariaSort = up ? "ascending" : "descending";
  rows.sort((one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]], [x, y] = [number(a), number(b)];
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
    return (isNaN(x) ? a.textContent.localeCompare(b.textContent) : x - y) * (up ? 1 : -1);
  });
  body.append(...rows);
}
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sort(head, head.cellIndex));
}
// Show an image large; a press anywhere or Escape closes it.
const box = document.body.appendChild(document.createElement("dialog"));
box.addEventListener("click", () => box.close());
function enlarge(image) {
  box.replaceChildren(image.cloneNode());
  box.showModal();
}
for (const image of document.querySelectorAll("figure img, .answer img, .own img")) {
  Object.assign(image, { tabIndex: 0, role: "button", title: "enlarge" });
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => event.key === "Enter" && enlarge(image));
}
