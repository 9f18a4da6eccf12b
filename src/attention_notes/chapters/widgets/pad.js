// A pad to draw on by pointer, touch or keyboard. What is drawn is a bitmap, not the canvas: the same in every browser.
(() => {
  "use strict";

  const SIZE = 128; // pixels a side, as the bitmaps of single characters that NIST scanned
  const RADIUS = 6; // of the pen
  const STEP = 8; // what an arrow key moves it by
  const MOVES = { ArrowUp: [0, -STEP], ArrowDown: [0, STEP], ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0] };

  // All pixels within the pen's radius of the line from one place to the other; a dot is a line to where it began.
  const stroke = (bits, [x0, y0], [x1, y1]) => {
    const span = (a, b) => [Math.max(0, Math.ceil(Math.min(a, b) - RADIUS)), Math.min(SIZE - 1, Math.max(a, b) + RADIUS)];
    const [[left, right], [top, bottom]] = [span(x0, x1), span(y0, y1)];
    const [dx, dy] = [x1 - x0, y1 - y0];
    for (let y = top; y <= bottom; y++)
      for (let x = left; x <= right; x++) {
        const along = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
        if (Math.hypot(x - x0 - along * dx, y - y0 - along * dy) <= RADIUS) bits[y * SIZE + x] = 1;
      }
  };

  // shades: side x side numbers from 0 to 1. Ink is white; the style sheet shows its difference to the ground, so that it
  // is seen on every ground, also when the theme changes.
  const paint = (canvas, shades) => {
    const side = Math.sqrt(shades.length);
    const picture = new ImageData(SIZE, SIZE);
    for (let at = 0; at < SIZE * SIZE; at++) {
      const [y, x] = [Math.floor(at / SIZE), at % SIZE].map((place) => Math.floor((place * side) / SIZE));
      picture.data.set([255, 255, 255, 255 * shades[y * side + x]], 4 * at);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  };

  const byPointer = (canvas, draw) => {
    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      draw(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = place(event);
      draw(last, next);
      last = next;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
  };

  // moved([x, y]) is called where the pen has come to, so that it can be seen or heard.
  const byKeyboard = (canvas, moved, draw) => {
    let at = [SIZE / 2, SIZE / 2];
    const inside = (value) => Math.min(SIZE - STEP, Math.max(STEP, value));
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key === " ") draw(at, at);
      else if (event.key in MOVES) {
        const next = at.map((place, axis) => inside(place + MOVES[event.key][axis]));
        if (event.shiftKey) draw(at, next);
        at = next;
      } else return;
      moved(at);
      event.preventDefault(); // the page stays where it is
    });
    canvas.addEventListener("focus", () => moved(at));
  };

  // changed(bits, size) is called after every stroke. Returns the element, clear(), and show(shades) for a ready picture.
  Live.pad = (changed, { label, describedBy }) => {
    const bits = new Uint8Array(SIZE * SIZE);
    // An application, so that screen readers hand the arrow keys through.
    const names = { role: "application", "aria-label": label, "aria-describedby": describedBy };
    const canvas = Live.el("canvas", { width: SIZE, height: SIZE, tabindex: 0, ...names });
    const pen = Live.el("span", { class: "draw-pen" });
    const where = Live.status();
    where.classList.add("live-hidden");
    const element = Live.el("div", { class: "draw-pad" }, canvas, pen, where);
    const draw = (from, to) => {
      stroke(bits, from, to);
      paint(canvas, bits);
      changed(bits, SIZE);
    };
    byPointer(canvas, draw);
    const moved = ([x, y]) => {
      Object.assign(pen.style, { left: `${(100 * x) / SIZE}%`, top: `${(100 * y) / SIZE}%` });
      where.say(`Pen in row ${y / STEP}, column ${x / STEP}, on ${bits[y * SIZE + x] ? "ink" : "paper"}.`);
    };
    byKeyboard(canvas, moved, draw);
    const show = (shades) => {
      bits.fill(0);
      paint(canvas, shades);
    };
    return { element, canvas, show, clear: () => show(bits) };
  };
})();
