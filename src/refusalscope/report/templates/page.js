// Charts in the colours of the theme, filters, and the few buttons of the page.
"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));

  // ---- theme: follows the system until the button is used
  const system = matchMedia("(prefers-color-scheme: dark)");
  let dark = location.hash === "#dark" || system.matches;
  const button = byId("theme");
  function setTheme(value) {
    dark = value;
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light theme" : "Dark theme";
    button.setAttribute("aria-pressed", String(dark));
    drawCharts();
  }
  system.addEventListener("change", (event) => setTheme(event.matches));
  button.addEventListener("click", () => setTheme(!dark));
  button.hidden = false;

  // ---- charts: figures name colours as CSS variables; they are looked up at each drawing
  const figures = JSON.parse(byId("charts").textContent);
  const hiddenLines = new Set();
  function themed(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, style)]));
    }
    return value;
  }
  function drawCharts() {
    if (typeof Plotly === "undefined") return;
    const style = getComputedStyle(root);
    const still = { displayModeBar: false, responsive: true, topojsonURL: "", plotlyServerURL: "" };
    for (const [id, figure] of Object.entries(figures)) {
      const { data, layout } = themed(figure, style);
      data.forEach((trace, at) => {
        if (trace.mode === "lines+markers" && hiddenLines.has(at)) trace.visible = false;
      });
      Plotly.react(id, data, layout, still);
    }
  }
  all("button.key").forEach((key) => {
    key.addEventListener("click", () => {
      const line = Number(key.dataset.line);
      if (!hiddenLines.delete(line)) hiddenLines.add(line);
      key.setAttribute("aria-pressed", String(!hiddenLines.has(line)));
      drawCharts();
    });
  });
  setTheme(dark);
  // Plotly is carried compressed; the page's policy knows the hash of what comes out.
  async function loadPlotly() {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(plain).text();
    document.head.append(script);
    drawCharts();
  }
  if (Object.keys(figures).length) {
    loadPlotly().catch(() => {
      all(".chart").forEach((chart) => {
        chart.textContent = "This browser cannot draw the chart; its numbers are in the table.";
      });
    });
  }
  let before = dark;
  addEventListener("beforeprint", () => { before = dark; setTheme(false); });
  addEventListener("afterprint", () => setTheme(before));

  // ---- long answers: a button to show all of it, where there is more
  function addExpanders(row) {
    all(".text", row).forEach((text) => {
      if (text.dataset.seen || text.scrollHeight <= text.clientHeight + 4) return;
      text.dataset.seen = "1";
      text.tabIndex = 0;
      text.setAttribute("role", "region");
      text.setAttribute("aria-label", "answer, scrolls");
      const more = document.createElement("button");
      more.type = "button";
      more.className = "expand";
      more.textContent = "Show all";
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", () => {
        const open = text.classList.toggle("all");
        more.textContent = open ? "Show less" : "Show all";
        more.setAttribute("aria-expanded", String(open));
      });
      text.after(more);
    });
  }
  const rows = all("details.row");
  rows.forEach((row) => {
    row.addEventListener("toggle", () => { if (row.open) addExpanders(row); });
    if (row.open) addExpanders(row);
  });

  // ---- filters
  const form = byId("filters");
  if (form) {
    const words = new Map();
    const text = (row) => {
      if (!words.has(row)) words.set(row, row.textContent.toLowerCase());
      return words.get(row);
    };
    const chosen = (id) => (byId(id) ? byId(id).value : "");
    const filter = () => {
      const wanted = byId("f-text").value.trim().toLowerCase();
      const [dataset, category, pattern] = ["f-dataset", "f-category", "f-pattern"].map(chosen);
      let shown = 0;
      all(".group").forEach((group) => {
        let here = 0;
        all("details.row", group).forEach((row) => {
          row.hidden =
            (dataset !== "" && group.dataset.dataset !== dataset) ||
            (category !== "" && row.dataset.c !== category) ||
            (pattern !== "" && row.dataset.p !== pattern) ||
            (wanted !== "" && !text(row).includes(wanted));
          here += row.hidden ? 0 : 1;
        });
        group.hidden = here === 0;
        shown += here;
      });
      byId("f-count").textContent = `${shown} of ${rows.length} instructions shown`;
      byId("f-none").hidden = shown > 0;
    };
    let waiting = 0;
    form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();
  }

  // ---- copy the command
  const copy = byId("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(byId("command").textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Select and copy";
      }
    });
  }
})();
