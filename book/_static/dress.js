// What the pages need of the theme's larger scripts, which are not loaded: menus that open, a way back to the top,
// folded parts that are printed, and boxes that the arrow keys can scroll.
"use strict";
{
  for (const button of document.querySelectorAll('[data-bs-toggle="dropdown"]')) {
    const box = button.parentElement;
    const menu = button.nextElementSibling;
    const show = (open) => {
      button.classList.toggle("show", open);
      menu.classList.toggle("show", open);
      button.setAttribute("aria-expanded", String(open));
    };
    button.addEventListener("click", () => show(button.getAttribute("aria-expanded") !== "true"));
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      show(false);
      button.focus();
    });
    box.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !box.contains(event.relatedTarget)) show(false);
    });
    document.addEventListener("click", (event) => {
      if (!box.contains(event.target)) show(false);
    });
  }

  const up = document.getElementById("pst-back-to-top");
  if (up) {
    let before = scrollY;
    up.addEventListener("click", () => scrollTo({ top: 0 }));
    addEventListener(
      "scroll",
      () => {
        up.style.display = scrollY < before && scrollY > innerHeight ? "block" : "none";
        before = scrollY;
      },
      { passive: true },
    );
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });

  // Keys lead anywhere on the page, so that it is laid out as a whole; see dress.css.
  addEventListener("keydown", () => (document.documentElement.dataset.whole = ""), { once: true });

  // Who has no mouse scrolls what has the focus; a box that has nothing to scroll is not in the way.
  const reach = (box) => {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => reach(target)));
  const boxes = "pre, .cell_output > .output, .katex-display, .paper-map, .sortable, .bd-article table";
  document.fonts.ready.then(() => document.querySelectorAll(boxes).forEach((box) => sizes.observe(box)));
}
