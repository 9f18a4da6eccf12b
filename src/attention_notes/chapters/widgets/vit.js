// papers/vit.py in JavaScript, for evaluation: the same names, the same order. Tokens are an array of rows. Weights come in
// float32, sums are kept in double precision; what PyTorch computes in float32 differs in the sixth digit.
(() => {
  "use strict";

  // W x + b for every row; W is (out, in), row by row, as nn.Linear keeps it.
  const linear = (rows, { weight, bias }) => {
    const [outputs, inputs] = weight.shape;
    return rows.map((row) => {
      const out = new Float64Array(outputs);
      for (let o = 0, at = 0; o < outputs; o++) {
        let sum = bias.values[o];
        for (let i = 0; i < inputs; i++) sum += weight.values[at++] * row[i];
        out[o] = sum;
      }
      return out;
    });
  };

  const layerNorm = (rows, { weight, bias }, eps) =>
    rows.map((row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
      const scale = 1 / Math.sqrt(variance + eps);
      return row.map((value, i) => (value - mean) * scale * weight.values[i] + bias.values[i]);
    });

  // erf by its series of positive terms, erf(x) = 2/√π e^(-x²) Σ 2^n x^(2n+1) / (2n+1)!!: exact, and fast for small x.
  const erf = (x) => {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  };

  const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));

  const softmax = (scores) => {
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = scores.map((score) => Math.exp(score - largest));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  };

  const add = (a, b) => a.map((row, r) => row.map((value, i) => value + b[r][i]));

  // PatchEmbedding: "b ch (gy py) (gx px) -> b (gy gx) (ch py px)", then the projection.
  const patchEmbedding = (image, { channels, image_size: [height, width], patch: [py, px] }, projection) => {
    const rows = [];
    for (let top = 0; top < height; top += py) {
      for (let left = 0; left < width; left += px) {
        const row = new Float64Array(channels * py * px);
        let at = 0;
        for (let ch = 0; ch < channels; ch++)
          for (let y = top; y < top + py; y++)
            for (let x = left; x < left + px; x++) row[at++] = image[(ch * height + y) * width + x];
        rows.push(row);
      }
    }
    return linear(rows, projection);
  };

  // SelfAttention: "b n (qkv h d) -> qkv b h n d". Returns what it adds to the stream, and the weights, h x n x m.
  const selfAttention = (z, heads, { qkv, output }) => {
    const projected = linear(z, qkv);
    const dim = z[0].length;
    const d = dim / heads;
    const mixed = z.map(() => new Float64Array(dim));
    const weights = Array.from({ length: heads }, (_, head) => {
      const part = (which) => projected.map((row) => row.subarray(which * dim + head * d, which * dim + (head + 1) * d));
      const [q, k, v] = [part(0), part(1), part(2)];
      const a = q.map((query) => softmax(Float64Array.from(k, (key) => dot(query, key) / Math.sqrt(d))));
      a.forEach((row, n) => row.forEach((weight, m) => {
        for (let i = 0; i < d; i++) mixed[n][head * d + i] += weight * v[m][i];
      }));
      return a;
    });
    return { added: linear(mixed, output), weights };
  };

  const dot = (a, b) => {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  };

  // MLP: contract(gelu(expand(x))).
  const mlp = (z, { expand, contract }) => linear(linear(z, expand).map((row) => row.map(gelu)), contract);

  // Block: z + attention(norm(z)), then z + mlp(norm(z)).
  const block = (z, { heads, eps }, part) => {
    const { added, weights } = selfAttention(layerNorm(z, part.attention_norm, eps), heads, part.attention);
    const between = add(added, z);
    return { z: add(mlp(layerNorm(between, part.mlp_norm, eps), part.mlp), between), weights };
  };

  // VisionTransformer: an image (channels x y x, from 0 to 1) to its logits, the tokens after the last norm, and the
  // attention weights under the names that record_attention gives them.
  const forward = (manifest, model, image) => {
    const patches = patchEmbedding(image, manifest, model.patches.projection);
    const classToken = model.pooling ? [model.pooling.token.values] : [];
    const positions = model.positions.values;
    const width = patches[0].length;
    const placed = (row, n) => Float64Array.from(row, (value, i) => value + positions[n * width + i]);
    let z = [...classToken, ...patches].map(placed);
    const attention = {};
    for (let layer = 0; layer < manifest.depth; layer++) {
      const out = block(z, manifest, model.blocks[layer]);
      z = out.z;
      attention[`blocks.${layer}.attention`] = out.weights;
    }
    const tokens = layerNorm(z, model.norm, manifest.eps);
    const mean = () => tokens[0].map((_, i) => tokens.reduce((sum, row) => sum + row[i], 0) / tokens.length);
    const pooled = model.pooling ? tokens[0] : mean();
    const logits = linear([pooled], model.head)[0];
    return { logits, probabilities: softmax(logits), tokens, attention };
  };

  // The parameters by their dotted names: "blocks.0.mlp.expand.weight" is model.blocks[0].mlp.expand.weight.
  const unpackParameters = (manifest, buffer) => {
    const model = {};
    for (const { name, shape, offset } of manifest.parameters) {
      const parts = name.split(".");
      const last = parts.pop();
      const holder = parts.reduce((at, part) => (at[part] ??= {}), model);
      holder[last] = { shape, values: new Float32Array(buffer, offset, shape.reduce((a, b) => a * b, 1)) };
    }
    return model;
  };

  // The checksum of zlib, PNG and Python's zlib.crc32.
  const crc32 = (bytes) => {
    let crc = -1;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc >>> 0;
  };

  // What live/draw.py exported, ready to run: image -> { logits, probabilities, tokens, attention }.
  Live.vit = (manifest, buffer) => {
    if (buffer.byteLength !== manifest.bytes || crc32(new Uint8Array(buffer)) !== manifest.crc32)
      throw new Error("the file of weights is not the one that was exported");
    const model = unpackParameters(manifest, buffer);
    return (image) => forward(manifest, model, image);
  };
})();
