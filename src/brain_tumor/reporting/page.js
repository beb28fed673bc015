// A click on a heading, or Enter, sorts its table: numbers from the highest, then from the lowest; what is missing last.
const value = (row, column) => row.cells[column].textContent.replace(/,/g, "");
for (const button of document.querySelectorAll("thead button")) button.onclick = () => {
  const heading = button.parentNode, column = heading.cellIndex, body = heading.closest("table").tBodies[0];
  const numeric = heading.classList.contains("number");
  const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
  const order = heading.getAttribute("aria-sort") === first ? second : first, sign = order === "descending" ? -1 : 1;
  const compare = (a, b) => numeric ? parseFloat(a) - parseFloat(b) : a.localeCompare(b, undefined, {numeric: true});
  const missing = text => numeric ? isNaN(parseFloat(text)) : text === "";
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one, column), b = value(other, column);
    return missing(a) || missing(b) ? missing(a) - missing(b) : sign * compare(a, b);
  });
  for (const each of heading.parentNode.cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  body.append(...rows);
};

// A long table has a filter and a button that saves it, all of its rows, as CSV.
const text = cell => cell.textContent.replace(/\s+/g, " ").trim();
const quote = words => /[",\n]/.test(words) ? `"${words.replace(/"/g, '""')}"` : words;
for (const table of document.querySelectorAll("table.filtered")) {
  const tools = document.createElement("div"), filter = document.createElement("input"), save = document.createElement("button");
  tools.className = "tools";
  filter.type = "search";
  filter.placeholder = "Filter rows";
  filter.setAttribute("aria-label", "Filter rows");
  filter.oninput = () => {
    const wanted = filter.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !text(row).toLowerCase().includes(wanted);
  };
  save.type = "button";
  save.textContent = "Save as CSV";
  save.onclick = () => {
    const lines = [...table.rows].map(row => [...row.cells].map(cell => quote(text(cell))).join(","));
    const link = document.createElement("a");
    link.setAttribute("href", URL.createObjectURL(new Blob([lines.join("\n") + "\n"], {type: "text/csv"})));
    link.download = `${(table.caption ?? document.querySelector("h1")).textContent.slice(0, 60)}.csv`;
    link.click();
  };
  tools.append(filter, save);
  table.closest(".scroll").before(tools);
}

// The slider below an animation chooses the frame.
for (const slider of document.querySelectorAll(".film input")) {
  const film = slider.closest(".film");
  slider.oninput = () => {
    film.querySelector("img").style.setProperty("--at", slider.value - 1);
    film.querySelector("output").textContent = `${slider.value} of ${slider.max}`;
  };
  slider.oninput();
}

// Paper can't be unfolded.
let unfolded = [];
window.addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const each of unfolded) each.open = true;
});
window.addEventListener("afterprint", () => { for (const each of unfolded) each.open = false; });

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
