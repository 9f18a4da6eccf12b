// The inspector's look at a text: a row of tokens that ask, one of them chosen, and a row of tokens that answer.
(() => {
  "use strict";
  Live.looks ??= {};

  const INVISIBLE = { " ": "␣", "\n": "⏎", "\t": "⇥", "": "∅" };
  const visible = (token) => INVISIBLE[token] ?? token;
  const spoken = (token) => ({ " ": "a space", "\n": "a line break", "\t": "a tab", "": "nothing" })[token] ?? `“${token}”`;

  Live.looks.text = (data, choose) => {
    const { el, unique, percent } = Live;
    const [askLabel, toldLabel] = [unique("asks"), unique("told")];
    const asks = el("div", { class: "inspector-tokens", role: "radiogroup", "aria-labelledby": askLabel });
    const told = el("ol", { class: "inspector-tokens", "aria-labelledby": toldLabel });
    const node = el("div", { class: "inspector-text" },
      el("p", { class: "live-note", id: askLabel }, "Query (arrow keys move)"), asks,
      el("p", { class: "live-note", id: toldLabel }, "Where it attends"), told);
    let layer, chips, keys;

    function arrange(next, _, slot) {
      const same = layer && layer.asks.join("\0") === next.asks.join("\0");
      layer = next;
      const query = Math.min(same ? slot : slot || 1, layer.asks.length);
      chips = layer.asks.map((token, i) => el("span", { class: "inspector-token", role: "radio", "aria-checked": "false", "aria-label": `${spoken(token)}, ${i + 1} of ${layer.asks.length}` }, visible(token)));
      asks.replaceChildren(...chips);
      Live.roving(chips, chips.length, (index) => choose(index + 1), query - 1);
      keys = layer.told.map((token) => {
        const share = el("span", { class: "inspector-share" });
        return Object.assign(el("li", { class: "inspector-token" }, el("span", {}, visible(token)), share), { share });
      });
      told.replaceChildren(...keys);
      return query;
    }

    function paint(shares, slot) {
      chips.forEach((chip, i) => chip.setAttribute("aria-checked", String(i + 1 === slot)));
      keys.forEach((key, j) => {
        const share = shares[j + 1];
        key.style.setProperty("--share", `${Math.round(45 * Math.sqrt(share))}%`); // the root: small shares are seen, too
        key.classList.toggle("inspector-none", share === 0);
        key.dataset.weight = share.toFixed(6);
        key.share.textContent = share === 0 ? "–" : percent(share);
      });
    }

    const place = (tokens, slot) => `${spoken(tokens[slot - 1])}${tokens.filter((t) => t === tokens[slot - 1]).length > 1 ? ` at ${slot}` : ""}`;
    return { node, arrange, paint, asker: (slot) => place(layer.asks, slot), answerer: (slot) => place(layer.told, slot) };
  };
})();
