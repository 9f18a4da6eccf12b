// Shifted windows, step by step: image, windows, roll, regions, mask, attention, and the way back; pick a token at any step.
// data: { side, window, shift, start, photo, allowed: {row, bytes}, weights: packed s x n x n, and tables of token numbers:
//         plain and shifted (s x n, the tokens of each window), rolled and back (by place of the map), pieces (s x n) }
(() => {
  "use strict";
  const { el } = Live;

  // keys: among whom the token's window lets it choose; layout: which token is at each place; cut: what borders separate.
  const STEPS = [
    { name: "image", layout: "own" },
    { name: "windows", layout: "own", cut: "plain", pairs: "all" },
    { name: "roll", layout: "rolled", cut: "plain" },
    { name: "regions", layout: "rolled", cut: "shifted", pairs: "all", coloured: true },
    { name: "mask", layout: "rolled", cut: "shifted", pairs: "allowed" },
    { name: "attention", layout: "rolled", cut: "shifted", pairs: "weights" },
    { name: "back", layout: "back", cut: "shifted" },
  ];

  // From a table s x n of tokens to where each token is: its window, and its position in the window.
  function whereIs(windows) {
    const where = [];
    windows.forEach((tokens, window) => tokens.forEach((token, position) => { where[token] = { window, position }; }));
    return where;
  }

  function tables(data) {
    const own = data.rolled.map((_, place) => place);
    const [plain, shifted] = [whereIs(data.plain), whereIs(data.shifted)];
    const text = atob(data.allowed.bytes);
    const byte = (window, query, key) => text.charCodeAt((window * data.shifted[0].length + query) * data.allowed.row + (key >> 3));
    const allowed = (window, query, key) => ((byte(window, query, key) >> (key & 7)) & 1) === 1;
    const piece = (token) => data.pieces[shifted[token].window][shifted[token].position];
    return { where: { plain, shifted }, layouts: { own, rolled: data.rolled, back: data.back }, allowed, piece, weights: Live.unpack(data.weights).at };
  }

  // Token -> strength from 0 to 1 of all that the token may look at in this step.
  function partners(data, { where, allowed, weights }, step, token) {
    const full = (tokens) => new Map(tokens.map((other) => [other, 1]));
    if (!step.cut) return full(data.rolled);
    const { window, position } = where[step.cut][token];
    const tokens = data[step.cut][window];
    if (step.cut === "plain" || step.coloured) return full(tokens);
    const admitted = tokens.map((other, key) => [other, key]).filter(([, key]) => allowed(window, position, key));
    if (step.pairs !== "weights") return full(admitted.map(([other]) => other));
    const most = Math.max(...admitted.map(([, key]) => weights(window, position, key)));
    return new Map(admitted.map(([other, key]) => [other, weights(window, position, key) / most]));
  }

  // The borders between neighbouring places whose names differ, as an SVG path.
  function between(side, name) {
    let path = "";
    for (let place = 0; place < side * side; place++) {
      const [y, x] = [Math.floor(place / side), place % side];
      if (x + 1 < side && name(place) !== name(place + 1)) path += `M${x + 1} ${y}v1`;
      if (y + 1 < side && name(place) !== name(place + side)) path += `M${x} ${y + 1}h1`;
    }
    return path;
  }

  const inWords = (side, place) => `row ${Math.floor(place / side) + 1}, column ${(place % side) + 1}`;

  function sentence(data, table, name, token) {
    const { side, window: size, shift } = data;
    const { window, position } = table.where.shifted[token];
    const keys = data.shifted[window];
    const admitted = keys.filter((_, key) => table.allowed(window, position, key));
    const [cells, kept, out] = [side * side, admitted.length, keys.length - admitted.length];
    const pieces = new Set(data.pieces[window]).size;
    const met = admitted.filter((other) => table.where.plain[other].window !== table.where.plain[token].window).length;
    const largest = Math.max(...keys.map((_, key) => table.weights(window, position, key)));
    return {
      image: () => `The token of ${inWords(side, token)}. Without windows it would look at all ${cells}.`,
      windows: () => `The block before: ${data.plain.length} windows of ${size} x ${size}. The token looks at the ${keys.length} of its own window, and at nothing beyond the border.`,
      roll: () => `Now the map is rolled, ${shift} rows up and ${shift} columns to the left; what leaves on one side comes in on the other. The token stands at ${inWords(side, data.rolled.indexOf(token))}, and its ${keys.length} partners of before went along.`,
      regions: () => pieces === 1
        ? `Windows as before, on the rolled map. That of the token is one piece of the image: all ${keys.length} are neighbours.`
        : `Windows as before, on the rolled map. That of the token now holds ${pieces} pieces of the image that are no neighbours; ${kept} of its ${keys.length} tokens are of the token's own piece.`,
      mask: () => out ? `The mask lets ${kept} of the ${keys.length} keys through; the ${out} keys from other regions get minus infinity.` : `The mask lets all ${kept} keys through.`,
      attention: () => `A softmax over ${kept} keys${out ? `; the weights of the ${out} keys from other regions are zero` : ""}. Here tokens compare colours, and nothing is learned. The largest weight is ${Live.percent(largest)}.`,
      back: () => `Rolled back, all is where it was. The token has looked at ${kept} tokens around it, and ${met} of these it could not see in the block before.`,
    }[name]();
  }

  // The photograph with a token under every place, faded where the chosen token does not look.
  function map(data, table, choose) {
    const { side } = data;
    const photo = new Image();
    const canvas = el("canvas", { width: side * 32, height: side * 32, "aria-hidden": "true" });
    const rects = table.layouts.own.map((place) => el("rect", { x: place % side, y: Math.floor(place / side), width: 1.01, height: 1.01, role: "button" }));
    const [halo, edges, seams] = ["halo", "edges", "seams"].map((name) => el("path", { class: name }));
    const here = el("rect", { class: "here", width: 1, height: 1 });
    const svg = el("svg", { viewBox: `0 0 ${side} ${side}`, role: "group", "aria-label": "Tokens of the map" }, ...rects, halo, edges, seams, here);
    const rove = Live.roving(rects, side, choose, data.start);
    let layout = table.layouts.own;

    function paint() {
      if (!photo.complete || !photo.naturalWidth) return;
      const [pen, size] = [canvas.getContext("2d"), photo.naturalWidth / side];
      layout.forEach((token, place) => pen.drawImage(
        photo, (token % side) * size, Math.floor(token / side) * size, size, size, (place % side) * 32, Math.floor(place / side) * 32, 32, 32,
      ));
    }
    photo.onload = paint;
    photo.src = data.photo;

    // Put the tokens where a step has them.
    function arrange(step, token) {
      layout = table.layouts[step.layout];
      rove.pick(layout.indexOf(token));
    }

    function show(step, token) {
      const seen = partners(data, table, step, token);
      const owner = (place) => (step.cut ? table.where[step.cut][layout[place]].window : 0);
      const piece = (place) => (step.cut === "shifted" ? table.piece(layout[place]) : 0);
      rects.forEach((rect, place) => {
        const mixed = Boolean(step.coloured) && new Set(data.pieces[owner(place)]).size > 1;
        const strength = seen.get(layout[place]) ?? 0;
        rect.toggleAttribute("data-piece", mixed);
        if (mixed) rect.dataset.piece = piece(place);
        rect.setAttribute("fill-opacity", mixed ? 0.3 + 0.25 * strength : (0.78 * (1 - strength)).toFixed(3));
        rect.setAttribute("aria-pressed", layout[place] === token);
        rect.setAttribute("aria-label", `${inWords(side, place)}${seen.has(layout[place]) ? ", seen" : ""}`);
      });
      const borders = between(side, owner);
      const pieces = step.coloured ? "" : between(side, (place) => `${owner(place)} ${piece(place)}`);
      halo.setAttribute("d", borders + pieces);
      edges.setAttribute("d", borders);
      seams.setAttribute("d", pieces);
      const place = layout.indexOf(token);
      here.setAttribute("x", place % side);
      here.setAttribute("y", Math.floor(place / side));
      paint();
    }
    return { node: el("div", { class: "live-windows-map" }, canvas, svg), arrange, show, token: (place) => layout[place] };
  }

  // All pairs of the token's window: queries down, keys across, blue where one may look, the token's row framed.
  function mask(data, table) {
    const n = data.shifted[0].length;
    const levels = [0.25, 0.5, 0.75, 1].map((opacity) => el("path", { "fill-opacity": opacity }));
    const row = el("rect", { class: "row", width: n, height: 1 });
    const svg = el("svg", { viewBox: `-1 -1 ${n + 2} ${n + 2}`, role: "img" }, el("rect", { class: "all", width: n, height: n }), ...levels, row);
    const words = el("p", { class: "live-note" });
    const node = el("div", { class: "live-windows-mask" }, svg, words);

    // Of four shades, those of a query's keys, by their share of its largest weight; -1 for a key that it may not see.
    function shades(step, window, query) {
      const keys = [...Array(n).keys()];
      if (step.pairs === "all") return keys.map(() => 3);
      const weights = keys.map((key) => (step.pairs === "weights" ? table.weights(window, query, key) : 1));
      const most = Math.max(...weights);
      return keys.map((key) => (table.allowed(window, query, key) ? Math.min(3, Math.floor((4 * weights[key]) / most)) : -1));
    }

    function show(step, token) {
      node.classList.toggle("live-windows-unused", !step.pairs);
      if (!step.pairs) return;
      const { window, position } = table.where[step.cut][token];
      const paths = ["", "", "", ""];
      let pairs = 0;
      for (let query = 0; query < n; query++) {
        shades(step, window, query).forEach((level, key) => {
          if (level < 0) return;
          pairs++;
          paths[level] += `M${key} ${query}h1v1h-1z`;
        });
      }
      levels.forEach((path, level) => path.setAttribute("d", paths[level]));
      row.setAttribute("y", position);
      words.textContent = `Window ${window + 1} of ${data.shifted.length}: queries down, keys across. ${pairs} of ${n * n} pairs${step.pairs === "all" ? "" : " are let through"}.`;
      svg.setAttribute("aria-label", words.textContent);
    }
    return { node, show };
  }

  Live.define("windows", (figure, data) => {
    const table = tables(data);
    let [step, token, ready] = [0, data.start, false];
    const picture = map(data, table, (place) => { token = picture.token(place); draw(); });
    const pairs = mask(data, table);
    const status = Live.status();
    const buttons = STEPS.map(({ name }, index) => el("button", { type: "button" }, `${index + 1} ${name}`));
    const steps = Live.roving(buttons, STEPS.length, (index) => { step = index; picture.arrange(STEPS[step], token); });
    const by = (move) => { if (STEPS[step + move]) steps.pick(step + move); };
    const [previous, next] = [[-1, "Previous"], [1, "Next"]].map(([move, words]) => el("button", { type: "button", onclick: () => by(move) }, words));

    function draw() {
      picture.show(STEPS[step], token);
      pairs.show(STEPS[step], token);
      buttons.forEach((button, index) => button.setAttribute("aria-current", index === step ? "step" : "false"));
      previous.setAttribute("aria-disabled", step === 0);
      next.setAttribute("aria-disabled", step === STEPS.length - 1);
      status.say(sentence(data, table, STEPS[step].name, token), ready ? undefined : 0);
    }
    figure.append(
      el("div", { class: "live-controls live-windows-steps", role: "toolbar", "aria-label": "Steps" }, previous, ...buttons, next),
      status,
      el("div", { class: "live-windows" }, picture.node, pairs.node),
      el("p", { class: "live-note" }, "Click a token, or go with the arrow keys. What it looks at is clear, the rest is faded."),
    );
    picture.arrange(STEPS[step], token);
    ready = true;
  });
})();
