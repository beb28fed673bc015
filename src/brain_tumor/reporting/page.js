// A click on a heading sorts its table: numbers by value, what is missing last.
const value = (row, column) => row.cells[column].textContent.replace(/,/g, "");
for (const heading of document.querySelectorAll("thead th")) heading.onclick = () => {
  const column = heading.cellIndex, body = heading.closest("table").tBodies[0];
  const down = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const numeric = heading.classList.contains("number");
  const compare = (a, b) => numeric ? parseFloat(a) - parseFloat(b) : a.localeCompare(b, undefined, {numeric: true});
  const missing = text => numeric ? isNaN(parseFloat(text)) : text === "";
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one, column), b = value(other, column);
    return missing(a) || missing(b) ? missing(a) - missing(b) : down * compare(a, b);
  });
  for (const each of heading.parentNode.cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
  body.append(...rows);
};

// Pointing at a dot says what it is, and lights up all dots of its name: the same patient for other networks and targets.
const light = name => {
  for (const plot of document.querySelectorAll(".plot")) {
    for (const dot of plot.querySelectorAll(".dot")) dot.classList.toggle("on", dot.dataset.name === name);
    plot.classList.toggle("lit", plot.querySelector(".on") !== null);
  }
};
for (const dot of document.querySelectorAll(".dot")) {
  dot.onpointerenter = () => {
    dot.closest("figure").querySelector(".pointed").textContent = dot.querySelector("title").textContent;
    light(dot.dataset.name);
  };
  dot.onpointerleave = () => light();
}

// A click on a name in the legend hides its dots, or shows them again.
for (const button of document.querySelectorAll(".legend button")) button.onclick = () => {
  const hidden = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", hidden);
  for (const group of button.closest("figure").querySelectorAll(".series")) if (group.dataset.series === button.dataset.series) group.classList.toggle("off", hidden);
};
