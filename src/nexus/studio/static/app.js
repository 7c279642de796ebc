// What every page needs: the theme button, copy buttons, and forms that ask before they do harm.
document.addEventListener("click", async (event) => {
  const target = event.target instanceof Element ? event.target : null;

  if (target?.closest("[data-theme-button]")) {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    applyTheme();
  }

  const copy = target?.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.getAttribute("data-copy") ?? "");
    copy.classList.add("done");
    copy.setAttribute("aria-label", "Copied");
    setTimeout(() => copy.setAttribute("aria-label", "Copy"), 1500);
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target instanceof Element ? event.target.getAttribute("data-ask") : null;
  if (question && !confirm(question)) event.preventDefault();
});

// A page that nobody looks at asks for nothing. (A condition in hx-trigger would need eval, which our policy forbids.)
document.addEventListener("htmx:config:request", (event) => {
  const polls = event.target instanceof Element && event.target.getAttribute("hx-trigger")?.includes("every");
  if (polls && document.hidden) event.preventDefault();
});
