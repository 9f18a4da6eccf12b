// Who can see whom: pick a cell of a map, and every model shows which cells of its input act on it, after so many blocks.
// data: { side, start, masks: {row, bytes}, models: [{name, borders: [block][...], seen: [block][cell] -> mask}] }
(() => {
  "use strict";
  const { el } = Live;

  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  // Bits of rows that each begin with a byte, the lowest bit first -> (row, column) => whether it is set.
  function bits({ row, bytes }) {
    const text = atob(bytes);
    return (at, column) => ((text.charCodeAt(at * row + (column >> 3)) >> (column & 7)) & 1) === 1;
  }

  function inWords(seen, cells) {
    if (seen === cells) return "every cell";
    const share = seen / cells;
    if (share >= 0.6) return "most cells";
    return share >= 0.4 ? "about half of the cells" : `one cell in ${Math.round(cells / seen)}`;
  }

  const blocksInWords = (count) => `${count} block${count > 1 ? "s" : ""}`;

  // Lines across the whole map, before the given rows and columns.
  const grid = (side, at) => at.map((i) => `M${i} 0V${side}M0 ${i}H${side}`).join("");

  // One model's map; choose(cell) is called when the reader picks one. show(cell, blocks) draws.
  function map({ side, model, masks, choose }) {
    const shapes = Object.fromEntries(["lines", "seen", "borders"].map((name) => [name, el("path", { class: name })]));
    const here = el("rect", { class: "here", width: 1, height: 1 });
    const inner = Array.from({ length: side - 1 }, (_, i) => i + 1);
    shapes.lines.setAttribute("d", grid(side, inner));
    const ground = el("rect", { class: "ground", width: side, height: side });
    const numbers = el("p", {});
    let cell;

    const clicked = (event) => {
      const box = svg.getBoundingClientRect();
      const index = (at, start, size) => Math.min(Math.max(Math.floor(((at - start) / size) * side), 0), side - 1);
      choose(index(event.clientY, box.top, box.height) * side + index(event.clientX, box.left, box.width));
    };
    const pressed = (event) => {
      const move = MOVES[event.key];
      if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const [row, column] = [Math.floor(cell / side) + move[0], (cell % side) + move[1]];
      if (Math.min(row, column) >= 0 && Math.max(row, column) < side) choose(row * side + column);
    };
    // A slider in two dimensions: the cell is its value, and what the cell sees is read out with it.
    const svg = el(
      "svg",
      {
        viewBox: `-0.1 -0.1 ${side + 0.2} ${side + 0.2}`, role: "slider", tabindex: 0, "aria-label": `Cell of the map, ${model.name}`,
        "aria-valuemin": 1, "aria-valuemax": side * side, onclick: clicked, onkeydown: pressed,
      },
      ground, shapes.seen, shapes.lines, shapes.borders, here,
    );

    function show(chosen, blocks) {
      cell = chosen;
      const mask = model.seen[blocks - 1][cell];
      const seen = [...Array(side * side).keys()].filter((other) => masks(mask, other));
      shapes.seen.setAttribute("d", seen.map((at) => `M${at % side} ${Math.floor(at / side)}h1v1h-1z`).join(""));
      shapes.borders.setAttribute("d", grid(side, model.borders[blocks - 1]));
      here.setAttribute("x", cell % side);
      here.setAttribute("y", Math.floor(cell / side));
      const share = Live.percent(seen.length / (side * side));
      numbers.textContent = `${seen.length} of ${side * side} cells, ${share}: ${inWords(seen.length, side * side)}`;
      svg.setAttribute("aria-valuenow", cell + 1);
      svg.setAttribute("aria-valuetext", `row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}: ${numbers.textContent}`);
    }
    return { node: el("div", { "data-model": model.name }, el("p", {}, el("strong", {}, model.name)), svg, numbers), show };
  }

  Live.define("sees", (figure, { side, start, masks, models }) => {
    let cell = start;
    let blocks = Math.min(2, models[0].seen.length);
    const read = bits(masks);
    const choose = (chosen) => { cell = chosen; draw(); };
    const maps = models.map((model) => map({ side, model, masks: read, choose }));
    const depth = Live.slider(
      "After", { min: 1, max: models[0].seen.length, value: blocks, words: blocksInWords }, (value) => { blocks = value; draw(); },
    );
    const status = Live.status();
    let ready = false;
    const where = () => `Row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}, after ${blocksInWords(blocks)}.`;
    const draw = () => {
      for (const one of maps) one.show(cell, blocks);
      status.say(where(), ready ? undefined : 0);
    };
    figure.append(
      el("div", { class: "live-controls" }, depth),
      el("div", { class: "live-sees" }, ...maps.map((one) => one.node)),
      status,
      el("p", { class: "live-note" }, "Click a cell, or go with the arrow keys. Blue: the cells of the input that act on it, by derivatives that are not zero. Dashed: the windows of the last block."),
    );
    draw();
    ready = true;
  });
})();
