// What live components share. A kind calls Live.define("kind", (figure, data) => { ... }) and builds its DOM in the figure.
// On the site this file is loaded once; in a notebook every output carries it, so that a second copy must change nothing.
(() => {
  "use strict";
  if (window.Live) return;

  const kinds = new Map();
  let names = 0;

  // {shape, least, step, bytes} of Python's pack -> {shape, values, at(...indices)}; row-major, to half a step.
  function unpack({ shape, least, step, bytes }) {
    const text = atob(bytes);
    const values = Float32Array.from(text, (letter) => least + step * letter.charCodeAt(0));
    const at = (...indices) => values[indices.reduce((place, index, axis) => place * shape[axis] + index, 0)];
    return { shape, values, at };
  }

  // el("button", { class: "x", onclick: f, "aria-label": "y" }, "text", node...) -> element; null and false attributes are left out.
  function el(tag, attributes = {}, ...children) {
    const space = SVG.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
    const node = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }
  const SVG = new Set(["svg", "g", "path", "rect", "circle", "line", "text", "polyline", "polygon", "use", "image"]);

  // An id that no other element on the page has.
  const unique = (stem) => `live-${stem}-${++names}`;

  // A labelled <select>; options are words, or [value, words]; onchange gets the value, a number where it is an index.
  function select(label, options, onchange, chosen = 0) {
    const id = unique("select");
    const box = el("select", { id, onchange: () => onchange(read()) });
    options.forEach((option, index) => {
      const [value, words] = Array.isArray(option) ? option : [index, option];
      box.append(el("option", { value, selected: value === chosen }, words));
    });
    const read = () => (Array.isArray(options[0]) ? box.value : Number(box.value));
    return Object.assign(el("span", { class: "live-control" }, el("label", { for: id }, label), box), { input: box, read });
  }

  // A labelled slider that says its value; words(value) is shown beside it and read out.
  function slider(label, { min, max, step = 1, value, words = String }, oninput) {
    const id = unique("slider");
    const output = el("span", { class: "live-value", "aria-hidden": "true" }); // read out as the slider's own value
    const input = el("input", { id, type: "range", min, max, step, value, oninput: () => { say(); oninput(Number(input.value)); } });
    const say = () => {
      output.textContent = words(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    say();
    return Object.assign(el("span", { class: "live-control" }, el("label", { for: id }, label), input, output), { input, say });
  }

  // A labelled checkbox.
  function checkbox(label, checked, onchange) {
    const input = el("input", { type: "checkbox", checked, onchange: () => onchange(input.checked) });
    return Object.assign(el("label", { class: "live-control live-check" }, input, label), { input });
  }

  // A line that a screen reader reads out when it changes; it waits for the reader's hand to rest.
  function status() {
    const node = el("p", { class: "live-status", role: "status" });
    let timer;
    node.say = (words, wait = 150) => {
      clearTimeout(timer);
      if (!wait) node.textContent = words;
      else timer = setTimeout(() => { node.textContent = words; }, wait);
    };
    return node;
  }

  // Arrow keys, Home and End move between the cells of a grid, one of which Tab reaches (roving tabindex).
  // cells: elements row by row, with columns of them in a row; or a list of rows, which may differ in length.
  // choose(index) is called when a key or a click picks a cell; in a single row, up and down are left and right.
  function roving(cells, columns, choose, first = 0) {
    const rows = Array.isArray(cells[0]) ? cells : cells.filter((_, i) => i % columns === 0).map((_, r) => cells.slice(r * columns, (r + 1) * columns));
    const all = rows.flat();
    let current = all[first];
    const pick = (cell, focus) => {
      current.tabIndex = -1;
      current = cell;
      current.tabIndex = 0;
      if (focus) current.focus();
      choose(all.indexOf(cell));
    };
    const beside = { ArrowLeft: -1, ArrowRight: 1, ...(rows.length === 1 && { ArrowUp: -1, ArrowDown: 1 }) };
    const goal = (key, r, c) => {
      if (key in beside) return rows[r][c + beside[key]];
      const other = { ArrowUp: rows[r - 1], ArrowDown: rows[r + 1], Home: rows[r], End: rows[r] }[key];
      return other?.[key === "Home" ? 0 : key === "End" ? other.length - 1 : Math.min(c, other.length - 1)];
    };
    rows.forEach((row, r) => row.forEach((cell, c) => {
      cell.tabIndex = cell === current ? 0 : -1;
      cell.addEventListener("click", () => pick(cell, true));
      cell.addEventListener("keydown", (event) => {
        if (event.altKey || event.ctrlKey || event.metaKey || !/^(Arrow|Home|End)/.test(event.key)) return;
        event.preventDefault();
        const next = goal(event.key, r, c);
        if (next) pick(next, true);
      });
    }));
    return { pick: (index) => pick(all[index], false) };
  }

  // Viridis, as in the book's figures: t from 0 to 1 -> [r, g, b].
  const STOPS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];
  function heat(t) {
    const at = Math.min(Math.max(t, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((value, i) => Math.round(value + (at - low) * (STOPS[low + 1][i] - value)));
  }

  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`;

  // Whether things may move by themselves.
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Bytes that came with a component, as an ArrayBuffer: a file beside this one on the site, in the output in a notebook.
  async function file(figure, name) {
    const holder = figure.querySelector(`:scope > script[data-file="${name}"]`);
    if (!holder.dataset.address) return Uint8Array.from(atob(holder.textContent), (letter) => letter.charCodeAt(0)).buffer;
    const response = await fetch(holder.dataset.address);
    if (!response.ok) throw new Error(`${response.status} for ${holder.dataset.address}`);
    return response.arrayBuffer();
  }

  // The figure's data, as Python gave it: in itself in a notebook, on the site in a script that tells it.
  const told = new Map();
  const tell = (data) => told.set(document.currentScript, data);

  function data(figure) {
    const holder = figure.querySelector(":scope > script[type='application/json']");
    if (!holder.dataset.address) return JSON.parse(holder.textContent);
    return new Promise((resolve, reject) => {
      const script = el("script", { src: holder.dataset.address });
      script.onload = () => resolve(told.get(script));
      script.onerror = () => reject(new Error(`no data at ${script.src}`));
      document.head.append(script);
    });
  }

  async function start(figure, build) {
    if ("begun" in figure.dataset) return;
    figure.dataset.begun = "";
    const given = [...figure.children];
    const picture = figure.querySelector(":scope > img");
    try {
      const found = await data(figure);
      picture?.remove();
      if (picture) figure.setAttribute("aria-label", picture.alt);
      build(figure, found, picture); // a kind that begins with a button may show the picture until it is pressed
    } catch (error) {
      figure.replaceChildren(...given); // the still picture is better than half a component
      figure.removeAttribute("aria-label");
      console.error(error);
    }
    figure.dataset.ready = "";
  }

  // A figure is built when it comes near: a page with many of them is there at once, and what prints is the picture.
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      start(target, kinds.get(target.dataset.live));
    }
  }, { rootMargin: "1500px 0px" });

  function define(kind, build) {
    kinds.set(kind, kinds.get(kind) ?? build);
    for (const figure of document.querySelectorAll(`figure.live[data-live="${kind}"]`)) near.observe(figure);
  }

  window.Live = { define, tell, unpack, file, el, unique, select, slider, checkbox, status, roving, heat, percent, still };
})();
