// The inspector's look at a picture: a grid of places over it, one of them chosen, and the places that answer, coloured.
(() => {
  "use strict";
  Live.looks ??= {};

  const cells = ([rows, columns]) => rows.slice(1).flatMap((bottom, r) => columns.slice(1).map((right, c) => ({ row: r, column: c, y: rows[r], x: columns[c], height: bottom - rows[r], width: right - columns[c] })));
  const within = (edges, at) => Math.max(edges.findLastIndex((edge) => edge <= at), 0);

  Live.looks.image = (data, choose) => {
    const { el, unique, heat, percent } = Live;
    const [height, width] = data.size;
    const photo = el("image", { width, height, preserveAspectRatio: "none" });
    const keys = el("g");
    const mark = el("g", { fill: "none", class: "inspector-mark" }, el("rect", { stroke: "#fff" }), el("rect", { stroke: "#e0802b" }));
    const drawing = el("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, photo, keys, mark);
    const extras = el("div", { class: "inspector-extras", role: "row" });
    const rows = el("div", { role: "none" });
    const picture = el("div", { class: "inspector-picture", role: "none", style: `aspect-ratio: ${width} / ${height}; max-width: min(100%, ${Math.round((24 * width) / height)}rem)` }, drawing, rows);
    const grid = el("div", { role: "grid", "aria-label": "Query: arrow keys move over the places of the picture" }, extras, picture);
    const top = el("span", {});
    const see = Live.checkbox("show the weights", true, (on) => picture.classList.toggle("inspector-bare", !on));
    const scale = el("div", { class: "inspector-scale" }, "0 %", el("span", { class: "inspector-bar" }), top, see);
    const node = el("div", { class: "inspector-image" }, grid, scale);
    let layer, asking, buttons, answering, squares;

    const centre = (slot) => { // of a place, in pixels; null for a token that has none
      const cell = layer && slot > layer.extra.length ? asking[slot - 1 - layer.extra.length] : null;
      return cell && [cell.y + cell.height / 2, cell.x + cell.width / 2];
    };

    // The same place in the other grid; the same extra token if there is one, the middle if not.
    function moved(next, slot) {
      const at = layer ? centre(slot) : null;
      if (!at && slot <= next.extra.length) return slot;
      if (!layer) return slot;
      const [y, x] = at ?? [height / 2, width / 2];
      return 1 + next.extra.length + within(next.grid[0].slice(0, -1), y) * (next.grid[1].length - 1) + within(next.grid[1].slice(0, -1), x);
    }

    const percentages = ({ y, x, height: h, width: w }) => `top: ${(100 * y) / height}%; left: ${(100 * x) / width}%; height: ${(100 * h) / height}%; width: ${(100 * w) / width}%`;

    function layOut(slot) {
      const extra = layer.extra.map((name) => el("div", { role: "gridcell", class: "inspector-extra" }, name, el("span", { class: "inspector-share" })));
      const places = asking.map((cell) => el("div", { role: "gridcell", class: "inspector-place", style: percentages(cell), "aria-label": `row ${cell.row + 1}, column ${cell.column + 1}` }));
      const columns = layer.grid[1].length - 1;
      extras.hidden = !extra.length;
      extras.replaceChildren(...extra);
      rows.replaceChildren(...Array.from({ length: places.length / columns }, (_, r) => el("div", { role: "row" }, ...places.slice(r * columns, (r + 1) * columns))));
      buttons = [...extra, ...places];
      const lines = [...(extra.length ? [extra] : []), ...Array.from({ length: places.length / columns }, (_, r) => places.slice(r * columns, (r + 1) * columns))];
      Live.roving(lines, null, (index) => choose(index + 1), slot - 1);
      squares = answering.map(({ y, x, height: h, width: w }) => el("rect", { y, x, height: h, width: w }));
      keys.replaceChildren(...squares);
    }

    function arrange(next, shown, slot) {
      const query = moved(next, slot);
      photo.setAttribute("href", data.pictures[shown]);
      if (next !== layer) {
        layer = next;
        [asking, answering] = [cells(layer.grid), cells(layer.keys)];
        layOut(query);
      }
      return query;
    }

    function paint(shares, slot) {
      const most = Math.max(...shares.subarray(1 + layer.extra.length));
      squares.forEach((square, j) => {
        const share = shares[1 + layer.extra.length + j] ?? 0;
        const part = most ? share / most : 0;
        square.setAttribute("fill", share ? `rgb(${heat(part).join()})` : "#000"); // dark: it gets nothing
        square.setAttribute("fill-opacity", share ? (0.65 * Math.sqrt(part)).toFixed(3) : 0.5);
        square.dataset.weight = share.toFixed(6);
      });
      buttons.forEach((button, i) => {
        button.setAttribute("aria-selected", String(i + 1 === slot));
        if (i < layer.extra.length) {
          button.lastChild.textContent = `gets ${percent(shares[i + 1])}`;
          button.dataset.weight = shares[i + 1].toFixed(6);
        }
      });
      const cell = asking[slot - 1 - layer.extra.length];
      mark.toggleAttribute("hidden", !cell);
      mark.style.display = cell ? "" : "none";
      if (cell) for (const frame of mark.children) for (const [name, value] of Object.entries({ y: cell.y, x: cell.x, height: cell.height, width: cell.width })) frame.setAttribute(name, value);
      top.textContent = percent(most);
    }

    const words = (slot, list) => (slot <= layer.extra.length ? `the ${layer.extra[slot - 1]}` : `row ${list[slot - 1 - layer.extra.length].row + 1}, column ${list[slot - 1 - layer.extra.length].column + 1}`);
    const asker = (slot) => { const said = words(slot, asking); return said[0].toUpperCase() + said.slice(1); };
    return { node, arrange, paint, asker, answerer: (slot) => words(slot, answering) };
  };
})();
