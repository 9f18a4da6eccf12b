// A figure opens large: by a click on its picture, or by a button in its corner that the keyboard reaches. Escape, the
// button and a click beside the picture close it; the focus goes back to where it was. Without this script the figures
// are simply there.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const LOOK = "M9 3H3v6M15 3h6v6M9 21H3v-6M15 21h6v-6";
  let dialog = null;

  // The picture that the reader has before him is shown; where there is one for light pages and one for dark pages, both
  // come along, and the theme hides one of them here as it does there.
  const copyOf = (frame) => {
    const figure = document.createElement("figure");
    const pictures = [...frame.querySelectorAll("img")].map((picture) => picture.cloneNode());
    const caption = frame.querySelector("figcaption")?.cloneNode(true);
    caption?.querySelectorAll(".headerlink").forEach((link) => link.remove());
    figure.append(...pictures, ...(caption ? [caption] : []));
    figure.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
    pictures.forEach((picture) => picture.removeAttribute("style"));
    return figure;
  };

  const make = () => {
    dialog = document.createElement("dialog");
    dialog.className = "large";
    dialog.addEventListener("click", (event) => {
      if (event.target.closest("button") || !event.target.closest("figcaption")) dialog.close();
    });
    document.body.append(dialog);
  };

  const open = (frame, name) => {
    if (dialog === null) make();
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    dialog.setAttribute("aria-label", name);
    dialog.replaceChildren(close, copyOf(frame));
    dialog.showModal();
    dialog.scrollTo(0, 0);
  };

  const frames = new Set();
  for (const picture of document.querySelectorAll(".bd-article figure img, .bd-article .cell_output img")) {
    const frame = picture.closest("figure") ?? picture.parentElement;
    if (!picture.closest(".live, a, dialog")) frames.add(frame);
  }
  for (const frame of frames) {
    const number = frame.querySelector(".caption-number")?.textContent.trim().replace(/[.:]$/, "");
    const name = number || "Picture";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "open-large";
    button.setAttribute("aria-label", `${name}: open large`);
    button.setAttribute("aria-haspopup", "dialog");
    button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${LOOK}"/></svg>`;
    button.addEventListener("click", () => open(frame, name));
    frame.classList.add("opens-large");
    for (const picture of frame.querySelectorAll("img")) {
      picture.addEventListener("click", () => {
        button.focus({ preventScroll: true }); // so that closing leads back here
        open(frame, name);
      });
    }
    frame.append(button);
  }
});
