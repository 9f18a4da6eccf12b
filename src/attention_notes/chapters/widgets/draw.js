// A model in the page: draw a digit, and the chapter's trained ViT reads it here, showing what it attends to as you draw.
// Needs: vit.js, scan.js, pad.js
(() => {
  "use strict";
  const { el, percent } = Live;

  const largestOf = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const mean = (rows) => rows[0].map((_, at) => rows.reduce((sum, row) => sum + row[at], 0) / rows.length);
  const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));

  // The cells of a grid, row by row; shade() gives each its opacity.
  const grid = (rows, columns, height, width, name) => times(rows * columns, (at) => {
    const [x, y] = [(at % columns) * width, Math.floor(at / columns) * height];
    return el("rect", { class: name, x, y, width, height, "fill-opacity": 0 });
  });
  const shade = (cells, values, largest = 1) =>
    cells.forEach((cell, at) => cell.setAttribute("fill-opacity", values[at] / largest));

  // What the model is given: pixels, and the cuts between the patches. The small pictures show them again, by their id.
  function given({ image_size: [height, width], patch: [py, px] }, id) {
    const pixels = grid(height, width, 1, 1, "draw-ink");
    const across = times(height / py - 1, (i) => `M0 ${(i + 1) * py}H${width}`);
    const down = times(width / px - 1, (i) => `M${(i + 1) * px} 0V${height}`);
    const label = `${height} x ${width} pixels, cut into patches of ${py} x ${px}`;
    const element = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      el("g", { id }, ...pixels), el("path", { class: "draw-cuts", d: [...across, ...down].join("") }));
    return { element, show: (image) => shade(pixels, image) };
  }

  // A bar and a number for each digit.
  function bars() {
    const rows = times(10, (digit) => {
      const [bar, number] = [el("span", { class: "draw-bar" }), el("td", { class: "draw-number" })];
      return { bar, number, row: el("tr", {}, el("th", { scope: "row" }, String(digit)), el("td", {}, bar), number) };
    });
    const caption = el("caption", { class: "live-hidden" }, "The probability of each digit");
    const element = el("table", { class: "draw-bars" }, caption, el("tbody", {}, ...rows.map(({ row }) => row)));
    const show = (probabilities) => rows.forEach(({ row, bar, number }, digit) => {
      bar.style.inlineSize = `${100 * (probabilities?.[digit] ?? 0)}%`;
      number.textContent = probabilities ? percent(probabilities[digit]) : "–";
      row.classList.toggle("draw-best", Boolean(probabilities) && probabilities[digit] === largestOf(probabilities));
    });
    return { element, show };
  }

  // A small picture for each head of each layer, and for the mean of its heads; they share one scale.
  function maps({ depth, heads, extra, image_size: [height, width], patch: [py, px] }, digit) {
    const [rows, columns] = [height / py, width / px];
    const titles = [...times(heads, (head) => `head ${head + 1}`), "mean"];
    const pictures = times(depth, (layer) => titles.map((title) => {
      const patches = grid(rows, columns, py, px, "draw-heat");
      const picture = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
        el("use", { href: `#${digit}`, class: "draw-under" }), ...patches);
      const rest = el("span", { class: "draw-rest" });
      return { name: `layer ${layer + 1}, ${title}`, patches, picture, rest };
    }));
    const caption = el("caption");
    const heading = (title) => el("th", { scope: "col" }, title);
    const body = pictures.map((row, layer) => el("tr", {}, el("th", { scope: "row" }, `layer ${layer + 1}`),
      ...row.map(({ picture, rest }) => el("td", {}, picture, rest))));
    const element = el("table", { class: "draw-maps" }, caption,
      el("thead", {}, el("tr", {}, el("td"), ...titles.map(heading))), el("tbody", {}, ...body));

    // weights: a number for each token, the class token first where there is one: it has no place in the picture.
    const fill = ({ name, patches, picture, rest }, weights, largest) => {
      const placed = weights.slice(extra);
      const most = placed.indexOf(largestOf(placed));
      shade(patches, placed, largest);
      rest.textContent = extra ? percent(weights[0]) : "";
      const where = `row ${Math.floor(most / columns) + 1}, column ${(most % columns) + 1}`;
      picture.setAttribute("aria-label", `${name}: most to the patch in ${where}, ${percent(placed[most])}`);
    };
    // ask: from the weights of a head, n x m, to a row of them.
    const show = (attention, ask) => {
      const shown = Object.values(attention).map((layer) => layer.map(ask)).map((layer) => [...layer, mean(layer)]);
      const largest = largestOf(shown.flat().map((weights) => largestOf(weights.slice(extra))));
      const rest = extra ? " The number below a picture goes to the class token, which has no place in it." : "";
      caption.textContent = `The fullest colour in any picture is a weight of ${percent(largest)}.${rest}`;
      pictures.forEach((row, layer) => row.forEach((picture, column) => fill(picture, shown[layer][column], largest)));
    };
    return { element, show };
  }

  // Whose attention is shown: choice() is a function from the weights of a head to one row of them.
  function query({ extra, image_size: [height, width], patch: [py, px] }, changed) {
    const columns = width / px;
    const patches = times((height / py) * columns, (at) =>
      [at + extra, `the patch in row ${Math.floor(at / columns) + 1}, column ${(at % columns) + 1}`]);
    const pooled = ["mean", "the mean of all tokens"];
    const options = [...(extra ? [[0, "the class token"]] : []), pooled, ...patches];
    const element = Live.select("Attention of", options, changed);
    const choice = () => (element.input.value === "mean" ? mean : (weights) => weights[element.input.value]);
    return { element, choice };
  }

  function sentence(probabilities, label) {
    if (!probabilities) return "The pad is empty.";
    const [first, second] = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    const [surest, next] = [first, second].map((digit) => percent(probabilities[digit]));
    const reading = `It reads a ${first}, ${surest}; next comes ${second}, ${next}.`;
    return label === null ? reading : `${reading} This held-out digit is a ${label}.`;
  }

  // Everything that comes once the weights are there. model: image -> { probabilities, attention }.
  function workspace({ manifest, examples, levels }, model) {
    const digit = Live.unique("digit");
    const [input, probabilities, attention] = [given(manifest, digit), bars(), maps(manifest, digit)];
    const answer = Live.status();
    answer.classList.add("draw-answer");
    const hint = el("p", { class: "live-note", id: Live.unique("hint") }, "Draw with the mouse or a finger. " +
      "By keyboard, arrow keys move the pen, space makes a dot, and shift with an arrow draws a line.");
    let [image, label, next, frame] = [null, null, 0, 0];

    const update = () => {
      const read = image && model(image);
      input.show(image ?? new Float64Array(manifest.image_size[0] * manifest.image_size[1]));
      probabilities.show(read?.probabilities);
      attention.element.hidden = asked.element.hidden = !read;
      if (read) attention.show(read.attention, asked.choice());
      answer.say(sentence(read?.probabilities, label), 400);
    };
    const asked = query(manifest, update);
    const drawn = (bits, size) => {
      cancelAnimationFrame(frame); // a fast hand makes more strokes than there are frames
      frame = requestAnimationFrame(() => {
        [image, label] = [Live.scan(bits, size), null];
        update();
      });
    };
    const pad = Live.pad(drawn, { label: "Drawing pad", describedBy: hint.id });
    const example = () => {
      cancelAnimationFrame(frame);
      const { pixels, label: known } = examples[next++ % examples.length];
      [image, label] = [Float64Array.from(pixels, (level) => parseInt(level, 36) / levels), known];
      pad.show(image);
      update();
    };
    const clear = () => {
      cancelAnimationFrame(frame);
      [image, label] = [null, null];
      pad.clear();
      update();
    };
    const button = (text, onclick) => el("button", { type: "button", onclick }, text);
    const part = (title, child) => el("div", { class: "draw-part" }, el("p", { class: "draw-title" }, title), child);
    update();
    const element = el("div", { class: "draw-desk" },
      el("div", { class: "draw-top" }, part("Your digit", pad.element), part("What the model is given", input.element),
        part("What it reads", probabilities.element)),
      el("p", { class: "live-controls" }, button("Take an example digit", example), button("Clear", clear)),
      hint, answer, asked.element, attention.element);
    return { element, focus: () => pad.canvas.focus() };
  }

  Live.define("draw", (figure, data, picture) => {
    const status = el("span", { role: "status" });
    const load = async () => {
      button.disabled = true;
      status.textContent = "Loading …";
      try {
        const model = Live.vit(data.manifest, await Live.file(figure, "weights"));
        const { element, focus } = workspace(data, model);
        picture?.remove();
        gate.replaceWith(element);
        focus();
      } catch (error) {
        status.textContent = `The model could not be loaded: ${error.message}.`;
        button.disabled = false;
      }
    };
    const size = (data.manifest.bytes / 1e6).toFixed(1);
    const button = el("button", { type: "button", onclick: load }, `Load the model, ${size} MB`);
    const gate = el("p", { class: "live-controls" }, button, status);
    figure.append(...(picture ? [picture] : []), gate);
  });
})();
