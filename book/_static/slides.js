// Slides by the keyboard: arrows, Page up and down and the space bar go to the next or the one before, Home and End to
// the first and the last, Escape to the chapter. The address names the slide. Without this script one scrolls.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const slides = [...document.querySelectorAll(".slide")];
  const bar = document.querySelector("nav");
  const chapter = bar.querySelector("a");
  const theme = localStorage.getItem("theme"); // as the book's pages keep it
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

  const nearest = () => {
    const offsets = slides.map((slide) => Math.abs(slide.getBoundingClientRect().top));
    return offsets.indexOf(Math.min(...offsets));
  };
  const go = (number) => {
    const at = Math.min(Math.max(number, 0), slides.length - 1);
    slides[at].scrollIntoView({ behavior: "instant" });
    history.replaceState(null, "", `#${slides[at].id}`);
    where.textContent = `Slide ${at + 1} of ${slides.length}`;
  };
  const button = (words, step) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", () => go(nearest() + step));
    return made;
  };
  const where = document.createElement("output");
  where.className = "unseen"; // the number is on the slide; this says it aloud
  bar.append(button("Previous", -1), button("Next", 1), where);

  // A formula wider than the screen can have the focus, and then the arrows along it are its own.
  const reach = ({ target: box }) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const sizes = new ResizeObserver((changed) => changed.forEach(reach));
  document.fonts.ready.then(() => document.querySelectorAll(".katex-display").forEach((box) => sizes.observe(box)));

  const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches?.(".katex-display") && /^Arrow(Left|Right)$/.test(event.key)) return;
    const onControl = event.target.closest?.("a, button") !== null;
    if (event.key in steps) go(nearest() + steps[event.key]);
    else if (event.key === " " && !onControl) go(nearest() + (event.shiftKey ? -1 : 1));
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(slides.length - 1);
    else if (event.key === "Escape") location.assign(chapter.href);
    else return;
    event.preventDefault();
  });
});
