// Makes the site usable by keyboard and screen reader where the theme is not: what scrolls takes the focus, and each side
// bar has a name.
for (const one of document.querySelectorAll("pre, .table-wrapper")) one.tabIndex = 0;
for (const [selector, name] of [[".sidebar-drawer", "Pages"], [".toc-drawer", "On this page"]]) {
  document.querySelector(selector)?.setAttribute("aria-label", name);
}
// A part of the page list is a heading without a level.
for (const one of document.querySelectorAll(".caption[role=heading]")) one.ariaLevel = 2;
// Markdown has no table without a header, and no header cell that is none.
for (const head of document.querySelectorAll("thead")) if (!head.textContent.trim()) head.remove();
for (const cell of document.querySelectorAll("th")) {
  if (!cell.textContent.trim()) cell.replaceWith(document.createElement("td"));
}
