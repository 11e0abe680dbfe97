"use strict";
document.documentElement.classList.add("js");

// Rows by the values of one column: numbers from high to low first, words from A; what has no value stays last.
function sortBy(head) {
  const row = head.parentElement;
  const column = [...row.children].indexOf(head);
  const numeric = head.classList.contains("number");
  const before = head.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : !numeric;
  for (const other of row.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = row.closest("table").tBodies[0];
  const words = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    const [one, two] = [a, b].map((line) => line.children[column]);
    const [x, y] = [one, two].map((cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value)));
    if (x !== null && y !== null) return ascending ? x - y : y - x;
    if (x !== null || y !== null) return x !== null ? -1 : 1;
    if (numeric) return 0;
    const order = words.compare(one.textContent, two.textContent);
    return ascending ? order : -order;
  };
  body.append(...[...body.rows].sort(compare));
}

// A link to a record opens what it is folded into.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
  if (target.tabIndex === -1 && target.hasAttribute("tabindex")) target.focus({ preventScroll: true });
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected: press Ctrl+C";
  }
}

function enlarge(button) {
  const viewer = document.getElementById("viewer");
  const small = button.querySelector("img");
  const large = viewer.querySelector("img");
  large.src = small.src;
  large.alt = small.alt;
  viewer.querySelector("p").textContent = small.alt;
  viewer.showModal();
}

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  if (on("button.sort")) sortBy(on("th"));
  else if (on("button.copy")) copy(on("button.copy"));
  else if (on("button.enlarge")) enlarge(on("button.enlarge"));
  else if (on("dialog") === event.target && event.target.open) event.target.close();
  else if (on('a[href^="#"]')) setTimeout(reveal);
});
addEventListener("hashchange", reveal);
reveal();
