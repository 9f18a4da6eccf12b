// The ledger shows what its form asks for: a chapter, a verdict, a kind, and words that all stand in an entry.
document.addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll("form.ledger-filter")) {
    const sections = [...form.parentElement.querySelectorAll("section[id^='ledger-']")];
    const entries = sections.flatMap((section) =>
      [...section.querySelectorAll("p.verdict")].map((entry) => ({
        entry,
        section,
        text: null, // read when words are asked for the first time
      })),
    );
    const fits = ({ entry, section, ...known }, asked) =>
      (!asked.chapter || section.id === `ledger-${asked.chapter}`) &&
      (!asked.verdict || entry.classList.contains(`verdict-${asked.verdict}`)) &&
      (!asked.kind || entry.classList.contains(`kind-${asked.kind}`)) &&
      asked.words.every((word) => known.text.includes(word));
    const show = () => {
      const given = Object.fromEntries(new FormData(form));
      const asked = { ...given, words: given.words.toLowerCase().split(/\s+/).filter(Boolean) };
      if (asked.words.length) for (const one of entries) one.text ??= one.entry.textContent.toLowerCase();
      const shown = entries.filter((one) => (one.entry.hidden = !fits(one, asked)) === false);
      const left = new Set(shown.map((one) => one.section));
      for (const section of sections) section.hidden = !left.has(section);
      form.querySelector("output").textContent = `${shown.length} of ${entries.length} statements`;
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    show();
  }
});
