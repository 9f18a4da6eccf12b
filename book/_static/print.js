// Paper is white: while a page is printed it is a light one, whatever the reader chose for the screen.
"use strict";

(() => {
  const root = document.documentElement;
  let chosen = null;
  addEventListener("beforeprint", () => {
    chosen ??= root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    if (chosen !== null) root.dataset.theme = chosen;
    chosen = null;
  });
})();
