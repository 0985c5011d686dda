"use strict";
// Sorting and filtering of tables that are complete without it.
(function () {
  function value(row, column) {
    const cell = row.cells[column];
    if (!cell) return "";
    if (cell.dataset.v !== undefined) return cell.dataset.v;
    const data = cell.querySelector("data");
    return data ? data.value : cell.textContent.trim();
  }
  function compare(a, b) {
    const x = parseFloat(a), y = parseFloat(b);
    if (!isNaN(x) && !isNaN(y) && isFinite(a.split("/")[0]) && isFinite(b.split("/")[0])) return x - y;
    return a.localeCompare(b, "en", { numeric: true });
  }
  function sort(table, column, down) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map(function (row) { return [value(row, column), row]; });
    rows.sort(function (a, b) {
      // what is unknown stays at the end in either direction
      if (a[0] === "" || b[0] === "") return (a[0] === "") - (b[0] === "");
      return down ? compare(b[0], a[0]) : compare(a[0], b[0]);
    });
    rows.forEach(function (pair) { body.append(pair[1]); });
  }
  document.querySelectorAll("table[data-sortable]").forEach(function (table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", function () {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down);
      });
    });
  });
  document.querySelectorAll("table[data-filter]").forEach(function (table) {
    const form = document.getElementById(table.dataset.filter);
    const count = form.querySelector(".count");
    const rows = Array.from(table.tBodies[0].rows);
    function apply() {
      const asked = new FormData(form);
      const words = (asked.get("text") || "").toLowerCase().split(/\s+/).filter(Boolean);
      const verdicts = (asked.get("verdict") || "").split(" ").filter(Boolean);
      let shown = 0;
      rows.forEach(function (row) {
        const text = row.cells[0].textContent.toLowerCase();
        const own = (row.dataset.verdict || "").split(" ");
        const keep = words.every(function (word) { return text.includes(word); }) &&
          (!verdicts.length || verdicts.some(function (verdict) { return own.includes(verdict); })) &&
          (!asked.get("vendor") || row.dataset.vendor === asked.get("vendor")) &&
          (!asked.get("memory") || Number(row.dataset.memory) >= Number(asked.get("memory")));
        row.hidden = !keep;
        shown += keep ? 1 : 0;
      });
      count.textContent = shown === rows.length ? rows.length + " cards" : shown + " of " + rows.length + " cards";
    }
    form.addEventListener("input", apply);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.hidden = false;
    apply();
  });
})();
