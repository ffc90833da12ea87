"use strict";
(() => {
  const { figures, dark } = JSON.parse(document.getElementById("data").textContent);
  const config = { displayModeBar: false };
  // A finger that moves over a plot scrolls the page; a mouse selects a part to enlarge, and a double click resets.
  const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
  const darkScheme = matchMedia("(prefers-color-scheme: dark)");

  // Replace every light colour by its dark one.
  const themed = (value, isDark) => {
    if (!isDark) return value;
    if (typeof value === "string") return dark[value] ?? value;
    if (Array.isArray(value)) return value.map((each) => themed(each, isDark));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, themed(each, isDark)]));
    return value;
  };

  const fitted = (figure, element, isDark) => {
    const { data, layout } = themed(figure, isDark);
    // The width is that of the element, whose own least width makes it scroll on a narrow screen.
    return [data, { ...layout, dragmode, width: element.clientWidth, autosize: false }];
  };

  const draw = (element, isDark) => {
    const figure = figures[element.id];
    return Plotly.newPlot(element, ...fitted(figure, element, isDark), config);
  };

  const elements = [...document.querySelectorAll(".plot")];
  let drawing = Promise.resolve();
  const drawAll = (isDark) => {
    // One after the other, so that the page answers in between.
    for (const element of elements)
      drawing = drawing.then(() => new Promise((done) => setTimeout(done))).then(() => draw(element, isDark));
    drawing = drawing.then(() => { document.documentElement.dataset.drawn = String(elements.length); });
    return drawing;
  };

  drawAll(darkScheme.matches);
  darkScheme.addEventListener("change", () => drawAll(darkScheme.matches));
  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => drawAll(darkScheme.matches), 150);
  });
  // Paper is white, and narrower than most screens.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    for (const element of elements) draw(element, false);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    drawAll(darkScheme.matches);
  });

  for (const button of document.querySelectorAll("button[data-copy]"))
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });

  const compared = (one, other) => {
    const [first, second] = [parseFloat(one), parseFloat(other)];
    if (!isNaN(first) && !isNaN(second)) return first - second;
    return one.localeCompare(other, undefined, { numeric: true });
  };

  for (const table of document.querySelectorAll("table.sortable"))
    for (const button of table.querySelectorAll("th button"))
      button.addEventListener("click", () => {
        const heading = button.parentElement;
        const column = heading.cellIndex;
        const isAscending = heading.getAttribute("aria-sort") !== "ascending";
        for (const each of heading.parentElement.cells) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [row.cells[column].textContent.trim(), row]);
        rows.sort(([one], [other]) => {
          // Empty cells stay at the end, whatever the direction.
          if (!one || !other) return !one - !other;
          return isAscending ? compared(one, other) : compared(other, one);
        });
        body.append(...rows.map(([, row]) => row));
      });

  const filter = document.getElementById("outcome");
  const shown = document.getElementById("shown");
  const applyFilter = () => {
    const rows = [...document.querySelectorAll("#trials tbody tr")];
    for (const row of rows) row.hidden = filter.value !== "" && row.dataset.outcome !== filter.value;
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} trials`;
  };
  if (filter) {
    filter.addEventListener("change", applyFilter);
    applyFilter();
  }
})();
