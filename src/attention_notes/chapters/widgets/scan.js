// How a drawing becomes 8 x 8 numbers: as the training images did. Their makers took bitmaps from NIST's handprint system
// (Garris et al. 1994, NISTIR 5469) and counted the ink in blocks. These are that system's steps and its numbers.
(() => {
  "use strict";

  const SIDE = 32; // the frame of a normalised character
  const WIDE = 20; // and the part of it that the character is stretched to before it is made upright
  const BLOCK = 4;
  const total = (bits) => bits.reduce((sum, bit) => sum + bit, 0);

  // The box around all ink, or null where there is none.
  const inkBox = (bits, size) => {
    const [rows, columns] = [[], []];
    bits.forEach((bit, at) => {
      if (!bit) return;
      rows.push(Math.floor(at / size));
      columns.push(at % size);
    });
    if (!rows.length) return null;
    const span = (places) => places.reduce(([low, high], p) => [Math.min(low, p), Math.max(high, p)], [size, 0]);
    const [[top, bottom], [left, right]] = [span(rows), span(columns)];
    return { top, left, height: bottom - top + 1, width: right - left + 1 };
  };

  // The box, stretched to 20 x 32 whatever its shape, in the middle of the frame.
  const stretch = (bits, size, { top, left, height, width }) => {
    const out = new Uint8Array(SIDE * SIDE);
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < WIDE; x++) {
        const row = top + Math.floor(((y + 0.5) * height) / SIDE);
        const column = left + Math.floor(((x + 0.5) * width) / WIDE);
        out[y * SIDE + (SIDE - WIDE) / 2 + x] = bits[row * size + column];
      }
    return out;
  };

  // One pixel more of ink all round, or one less: a pixel looks at its four neighbours; beyond the frame is paper.
  const grow = (bits, ink) =>
    bits.map((bit, at) => {
      const [y, x] = [Math.floor(at / SIDE), at % SIDE];
      const last = SIDE - 1;
      const around = [y && bits[at - SIDE], y < last && bits[at + SIDE], x && bits[at - 1], x < last && bits[at + 1]];
      return ink ? bit || around.some(Boolean) : bit && around.every(Boolean);
    });

  // Much ink is thinned and little is thickened, so that pens of all widths look alike.
  const evenOut = (bits) => {
    const ink = total(bits);
    const times = ink > 560 || ink < 108 ? 2 : ink > 412 || ink < 256 ? 1 : 0;
    for (let i = 0; i < times; i++) bits = grow(bits, ink < 256);
    return bits;
  };

  // Rows are shifted until the left edge near the top stands above the left edge near the bottom.
  const makeUpright = (bits) => {
    const row = (y) => bits.subarray(y * SIDE, (y + 1) * SIDE);
    const inked = [...Array(SIDE).keys()].filter((y) => row(y).includes(1));
    const [top, bottom] = [inked[0] + 2, inked.at(-1) - 2]; // the outermost rows are noisy
    if (!inked.length || bottom - top < 1 || !row(top).includes(1) || !row(bottom).includes(1)) return bits;
    const slant = (row(top).indexOf(1) - row(bottom).indexOf(1)) / (bottom - top);
    const out = new Uint8Array(SIDE * SIDE);
    for (let y = 0; y < SIDE; y++) {
      const shift = Math.round((y - SIDE / 2) * slant);
      row(y).forEach((bit, x) => {
        if (bit && x + shift >= 0 && x + shift < SIDE) out[y * SIDE + x + shift] = 1;
      });
    }
    return out;
  };

  // The ink in each block of 4 x 4 pixels, from 0 to 1.
  const countBlocks = (bits) => {
    const across = SIDE / BLOCK;
    const out = new Float64Array(across * across);
    bits.forEach((bit, at) => {
      const [y, x] = [Math.floor(at / SIDE / BLOCK), Math.floor((at % SIDE) / BLOCK)];
      out[y * across + x] += bit / BLOCK ** 2;
    });
    return out;
  };

  // bits: size x size, 1 where there is ink. Returns 64 numbers, or null for an empty pad.
  Live.scan = (bits, size) => {
    const box = inkBox(bits, size);
    return box && countBlocks(makeUpright(evenOut(stretch(bits, size, box))));
  };
})();
