"use strict";
(() => {
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const place = [...heading.parentNode.children].indexOf(heading);
    // the best first at the first press; names from A on
    const next = heading.getAttribute("aria-sort") === (place ? "descending" : "ascending");
    const rising = place ? next : !next;
    for (const other of heading.parentNode.querySelectorAll("[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = table.tBodies[0];
    const value = (row) => row.children[place].dataset.sort;
    const rows = [...body.rows].sort((a, b) => (rising ? 1 : -1) * compare(value(a), value(b)));
    body.append(...rows);
  };

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(button.parentNode));
  }
})();
