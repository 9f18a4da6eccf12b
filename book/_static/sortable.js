// Tables in a .sortable box are sorted by a click, or the Enter or space key, on the head of a column; rows that know
// their chapter link to it. Without this script the table is simply there.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".sortable table")) {
    const body = table.tBodies[0];
    for (const row of body.querySelectorAll("tr[data-chapter]")) {
      const link = document.createElement("a");
      link.href = `../chapters/${row.dataset.chapter}.html`;
      link.append(...row.cells[0].childNodes);
      row.cells[0].append(link);
    }
    const heads = [...table.tHead.rows[0].cells];
    const compare = (column, sign) => (a, b) => {
      const [x, y] = [a.cells[column], b.cells[column]];
      const numbers = [x, y].map((cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : null));
      if (numbers.every((number) => number !== null)) return sign * (numbers[0] - numbers[1]);
      if (numbers.some((number) => number !== null)) return numbers[0] === null ? 1 : -1; // what is not known comes last
      return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = body.querySelector(`tr > :nth-child(${column + 1})[data-value]`) !== null;
        const before = head.getAttribute("aria-sort");
        const ascending = before ? before === "descending" : !numeric; // numbers begin with the largest
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        body.append(...[...body.rows].sort(compare(column, ascending ? 1 : -1)));
      });
    });
  }
});
