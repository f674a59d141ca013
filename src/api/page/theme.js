// Sets theme and language before the first paint, so that nothing flashes. A classic script on purpose.
(() => {
  const read = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const root = document.documentElement;
  const theme = read("walferry.theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const languages = [read("walferry.language"), ...(navigator.languages || [])].filter(Boolean);
  const known = languages.map((name) => name.slice(0, 2)).find((name) => name === "tr" || name === "en");
  root.lang = known || "en";
})();
