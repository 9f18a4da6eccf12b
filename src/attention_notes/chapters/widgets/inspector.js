// The attention inspector: who asks is picked on a text or a picture; a layer and a head are chosen; the answer is shown.
// Needs: inspector_text.js, inspector_image.js
(() => {
  "use strict";

  // Slots, as in the package's `seeing`: 0 is padding, then extra tokens, then the cells, row by row.
  // A layer as it came -> what can be asked of it. Weights travel as their roots.
  function prepare(given) {
    const roots = Live.unpack(given.weights);
    const [, , planes, n, m] = roots.shape;
    const asked = new Map(); // the slot of a query -> its window, and its row in there
    given.queries.forEach((window, s) => window.forEach((slot, row) => asked.set(slot, [s, n === 1 ? 0 : row])));
    const answering = Math.max(...given.answers.map((window) => Math.max(...window)));
    function shares(picture, plane, slot) {
      const [s, row] = asked.get(slot);
      const first = (((picture * given.queries.length + s) * planes + plane) * n + row) * m;
      const found = new Float64Array(answering + 1);
      given.answers[s].forEach((key, j) => { found[key] += roots.values[first + j] ** 2; });
      return found;
    }
    const known = (slot) => given.answers[asked.get(slot)[0]].filter((key) => key > 0).length; // how many keys it has
    return { ...given, shares, known };
  }

  // Over how many keys even weights would be as spread out: the exponential of the entropy.
  function evenly(shares) {
    const total = shares.reduce((sum, share) => sum + share, 0);
    return Math.exp(-shares.reduce((sum, share) => sum + (share ? (share / total) * Math.log(share / total) : 0), 0));
  }

  function sentence(who, shares, name, keys) {
    const order = [...shares.keys()].filter((slot) => slot && shares[slot] > 0.0005).sort((a, b) => shares[b] - shares[a]);
    const most = order.slice(0, 3).map((slot) => `${name(slot)} (${Live.percent(shares[slot])})`);
    const list = most.length > 1 ? `${most.slice(0, -1).join(", ")} and ${most.at(-1)}` : most[0] ?? "nothing";
    const padding = shares[0] > 0.0005 ? ` Padding gets ${Live.percent(shares[0])}.` : "";
    return `${who} attends most to ${list}; as spread out as even weights over ${evenly(shares).toFixed(1)} of ${keys} keys.${padding}`;
  }

  Live.define("inspector", (figure, data) => {
    const { el, select, status } = Live;
    const layers = data.layers.map(prepare);
    const state = { picture: 0, layer: data.first.layer, plane: 0, query: data.first.query };
    const view = Live.looks[data.look](data, (slot) => { state.query = slot; show(); });
    const said = status();

    const names = layers.map((layer) => layer.name);
    const pictures = data.names?.length > 1 && select("picture", data.names, (index) => { state.picture = index; arrange(); });
    const pick = layers.length > 1 && select("layer", names, (index) => { state.layer = index; arrange(); }, state.layer);
    const heads = el("span", { class: "live-slot" });
    let head = null;

    function show(wait) {
      const layer = layers[state.layer];
      const shares = layer.shares(state.picture, state.plane, state.query);
      view.paint(shares, state.query);
      said.say(sentence(view.asker(state.query), shares, view.answerer, layer.known(state.query)), wait);
    }

    // Another layer may have other places and other heads: what was chosen stays chosen where it can.
    function arrange(wait) {
      const layer = layers[state.layer];
      if (head?.planes.join() !== layer.planes.join()) {
        const before = layer.planes.indexOf(head?.planes[state.plane]);
        state.plane = Math.max(before, 0);
        head = layer.planes.length > 1 ? select("head", layer.planes, (plane) => { state.plane = plane; show(); }, state.plane) : el("span");
        head.planes = layer.planes;
        heads.replaceChildren(head);
      }
      state.query = view.arrange(layer, state.picture, state.query);
      show(wait);
    }

    figure.append(el("div", { class: "live-controls" }, ...[pictures, pick, heads].filter(Boolean)), view.node, said);
    arrange(0);
  });
})();
