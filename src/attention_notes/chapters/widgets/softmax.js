// A softmax over dot products: width and temperature by sliders, with and without the division by the root of the width.
(() => {
  "use strict";
  const { el, percent, slider, status } = Live;

  function softmax(scores) {
    const most = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - most));
    const total = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / total);
  }
  const bits = (p) => -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log2(x) : 0), 0) + 0;
  // The Frobenius norm of diag(p) - p pᵀ: entries p_i - p_i² on the diagonal, -p_i p_j beside it.
  const slope = (p) => {
    const squares = p.reduce((sum, x) => sum + x * x, 0);
    return Math.sqrt(Math.max(p.reduce((sum, x) => sum + x * x - 2 * x ** 3, 0) + squares * squares, 0));
  };

  // One side: its bars, a key in a line, and what they come to.
  function panel(title, keys) {
    const rows = Array.from({ length: keys }, (_, j) => {
      const [bar, share] = [el("span", { class: "softmax-bar" }), el("span", { class: "softmax-share" })];
      return { node: el("li", {}, el("span", { class: "softmax-key" }, `key ${j + 1}`), el("span", { class: "softmax-track" }, bar), share), bar, share };
    });
    const numbers = el("p", { class: "live-note softmax-numbers" });
    const node = el("div", { class: "softmax-panel" }, el("p", { class: "softmax-title" }, title), el("ol", { "aria-label": `weights, ${title}` }, ...rows.map((row) => row.node)), numbers);
    function paint(p) {
      p.forEach((share, j) => {
        rows[j].bar.style.width = `${100 * share}%`;
        rows[j].share.textContent = percent(share);
        rows[j].node.dataset.weight = share.toFixed(6);
      });
      Object.assign(node.dataset, { entropy: bits(p).toFixed(4), slope: slope(p).toFixed(4) });
      numbers.textContent = `entropy ${bits(p).toFixed(2)} of ${Math.log2(keys).toFixed(2)} bits · derivative ${slope(p).toFixed(2)}`;
    }
    return { node, paint };
  }

  // The norm of the derivative over the width, mean of all draws: a line for either side, and where the slider stands.
  function chart(widths) {
    const [width, height, left, right, top, bottom] = [320, 150, 34, 18, 8, 34];
    const x = (i) => left + (i * (width - left - right)) / (widths.length - 1);
    const y = (value) => top + (1 - value / 0.5) * (height - top - bottom);
    const words = (at, down, text, anchor = "middle") => el("text", { x: at, y: down, "text-anchor": anchor }, text);
    const lines = ["plain", "divided"].map((name) => el("polyline", { class: `softmax-line softmax-${name}` }));
    const here = el("line", { class: "softmax-here", y1: top, y2: height - bottom });
    const ticks = [0, 0.25, 0.5].flatMap((value) => [el("line", { class: "softmax-tick", x1: left, x2: width - right, y1: y(value), y2: y(value) }), words(left - 5, y(value) + 4, String(value), "end")]);
    const names = widths.map((d, i) => (i % 2 ? "" : words(x(i), height - bottom + 13, String(d)))).filter(Boolean);
    const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...ticks, ...names, words((left + width - right) / 2, height - 4, "width d"), here, ...lines);
    const legend = el("p", { class: "live-note softmax-legend" }, "Norm of the derivative, mean over all draws: ", el("span", { class: "softmax-plain" }, "not divided"), ", ", el("span", { class: "softmax-divided" }, "divided by √d"));
    function paint(curves, index) {
      curves.forEach((curve, c) => lines[c].setAttribute("points", curve.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ")));
      here.setAttribute("x1", x(index));
      here.setAttribute("x2", x(index));
    }
    return { node: el("div", { class: "softmax-chart" }, svg, legend), paint };
  }

  Live.define("softmax", (figure, data) => {
    const { widths, products } = data;
    const keys = products[0][0].length;
    const state = { width: data.first, temperature: 0, draw: 0 };
    const sides = [panel("not divided", keys), panel("divided by √d", keys)];
    const curves = chart(widths);
    const said = status();
    const weights = (draw, i, side) => softmax(products[draw][i].map((s) => s / 10 ** state.temperature / (side ? Math.sqrt(widths[i]) : 1)));
    const mean = (i, side) => products.reduce((sum, _, draw) => sum + slope(weights(draw, i, side)), 0) / products.length;

    function show(wait) {
      const found = [0, 1].map((side) => weights(state.draw, state.width, side));
      found.forEach((p, side) => sides[side].paint(p));
      curves.paint([0, 1].map((side) => widths.map((_, i) => mean(i, side))), state.width);
      const [plain, divided] = found.map((p) => `the largest weight is ${percent(Math.max(...p))} and the derivative has norm ${slope(p).toFixed(2)}`);
      said.say(`Width ${widths[state.width]}. Not divided, ${plain}. Divided, ${divided}.`, wait);
    }

    const change = (name) => (value) => { state[name] = value; show(); };
    const other = el("button", { type: "button", onclick: () => { state.draw = (state.draw + 1) % products.length; show(); } }, "Other vectors");
    figure.append(
      el("div", { class: "live-controls" },
        slider("width d", { min: 0, max: widths.length - 1, value: state.width, words: (i) => String(widths[i]) }, change("width")),
        slider("temperature", { min: -1, max: 1, step: 0.05, value: 0, words: (t) => (10 ** t).toFixed(2) }, change("temperature")),
        other),
      el("div", { class: "softmax-panels" }, ...sides.map((side) => side.node)), curves.node, said);
    show(0);
  });
})();
