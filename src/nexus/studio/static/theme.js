// Before the first paint: the theme that was chosen here, else the system's. Loaded in <head> without `defer`.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const chosen = localStorage.getItem("theme");
  root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
  document.dispatchEvent(new Event("themechange"));
}

dark.addEventListener("change", applyTheme);
applyTheme();
