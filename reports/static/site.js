"use strict";
// Pages are complete without it: sorting, filtering, the field for a card, copying.
(function () {
  const all = function (what, where) { return Array.from((where || document).querySelectorAll(what)); };
  const asked = new URLSearchParams(location.search);
  function keep(values) {
    const kept = new URLSearchParams();
    Object.keys(values).forEach(function (name) { if (values[name]) kept.set(name, values[name]); });
    const text = kept.toString();
    history.replaceState(null, "", location.pathname + (text ? "?" + text : "") + location.hash);
  }
  function made(tag, text, kind) {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  }
  function link(text, address) {
    const element = made("a", text);
    element.href = address;
    return element;
  }

  // tables that sort
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
  // below 600 px a row is a card, and each cell says what its column is
  function label(table) {
    const heads = Array.from(table.tHead.rows[0].cells).map(function (head) {
      return head.firstChild ? head.firstChild.textContent.trim() : "";
    });
    Array.from(table.tBodies[0].rows).forEach(function (row) {
      Array.from(row.cells).forEach(function (cell, column) {
        if (cell.tagName === "TD" && !cell.dataset.label) cell.dataset.label = heads[column];
      });
    });
  }
  all("table.rows,table.modes,table.grid").forEach(label);
  // a list in parts is put together when somebody sorts or filters it; where it cannot be, the part stands alone
  const parts = document.querySelector("nav.several[data-whole]");
  let whole = null;
  function together(table) {
    if (!parts) return Promise.resolve();
    whole = whole || Promise.all(all("a", parts).map(function (lead) {
      if (lead.getAttribute("aria-current")) return Array.from(table.tBodies[0].rows);
      return fetch(lead.href).then(function (reply) {
        if (!reply.ok) throw new Error(reply.status);
        return reply.text();
      }).then(function (text) {
        const rows = Array.from(new DOMParser().parseFromString(text, "text/html").querySelectorAll("#list tbody tr"));
        rows.forEach(function (row) {
          all("a", row).forEach(function (one) { one.href = new URL(one.getAttribute("href"), lead.href).href; });
        });
        return rows;
      });
    })).then(function (found) {
      table.tBodies[0].append(...found.flat());
      label(table);
      parts.hidden = true;
    }, function () {});
    return whole;
  }
  all("table[data-sortable]").forEach(function (table) {
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
        (table.id === "list" ? together(table) : Promise.resolve()).then(function () { sort(table, column, down); });
      });
    });
  });

  // tables that filter; a word that only a column's head has narrows the columns instead of the rows
  all("table[data-filter]").forEach(function (table) {
    const form = document.getElementById(table.dataset.filter);
    const count = form.querySelector(".count");
    let rows = Array.from(table.tBodies[0].rows);
    const from = Number(table.dataset.columns || 0), what = table.dataset.what || "cards";
    const heads = Array.from(table.tHead.rows[0].cells);
    const words = function (element) { return (element.textContent + " " + (element.dataset.slug || "")).toLowerCase(); };
    all("input,select", form).forEach(function (field) {
      if (asked.has(field.name)) field.value = asked.get(field.name);
    });
    function apply() {
      const want = Object.fromEntries(new FormData(form));
      const typed = (want.text || "").toLowerCase().split(/\s+/).filter(Boolean);
      const named = function (word) { return rows.some(function (row) { return words(row.cells[0]).includes(word); }); };
      const ofColumns = from ? typed.filter(function (word) { return !named(word); }) : [];
      const ofRows = typed.filter(function (word) { return !ofColumns.includes(word); });
      const verdicts = (want.verdict || "").split(" ").filter(Boolean);
      const hidden = heads.map(function (head, column) {
        return from > 0 && column >= from && !ofColumns.every(function (word) { return words(head).includes(word); });
      });
      const nothing = from > 0 && hidden.slice(from).every(Boolean);
      let shown = 0;
      rows.forEach(function (row) {
        const own = from
          ? Array.from(row.cells).filter(function (_, column) { return column >= from && !hidden[column]; })
            .map(function (cell) { return ["fits", "tight", "unknown", "no"][cell.dataset.v]; })
          : [row.dataset.verdict];
        const fits = !nothing && ofRows.every(function (word) { return words(row.cells[0]).includes(word); }) &&
          (!verdicts.length || verdicts.some(function (verdict) { return own.includes(verdict); })) &&
          (!want.vendor || row.dataset.vendor === want.vendor) &&
          (!want.memory || Number(row.dataset.memory) >= Number(want.memory)) &&
          (!want.price || (row.dataset.price && Number(row.dataset.price) <= Number(want.price)));
        row.hidden = !fits;
        shown += fits ? 1 : 0;
        if (from) Array.from(row.cells).forEach(function (cell, column) { cell.hidden = hidden[column]; });
      });
      heads.forEach(function (head, column) { head.hidden = hidden[column]; });
      const of = parts && !parts.hidden ? parts.dataset.whole : rows.length + " " + what;
      const cards = parts && !parts.hidden || shown !== rows.length ? shown + " of " + of : of;
      const columns = hidden.filter(Boolean).length;
      count.textContent = cards + (columns && !nothing ? ", " + (heads.length - from - columns) + " models" : "");
      keep(want);
    }
    function entire() {
      apply();
      together(table).then(function () {
        rows = Array.from(table.tBodies[0].rows);
        apply();
      });
    }
    form.addEventListener("input", entire);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.hidden = false;
    if (Array.from(new FormData(form).values()).some(Boolean)) entire();
    else apply();
  });

  // a card's profile: the column and the purpose that were asked for
  all("form[data-profile]").forEach(function (form) {
    all("select", form).forEach(function (field) {
      const value = asked.get(field.name);
      if (value && Array.from(field.options).some(function (one) { return one.value === value; })) field.value = value;
    });
    function apply() {
      const want = Object.fromEntries(new FormData(form));
      all("[data-purpose]").forEach(function (part) {
        part.hidden = Boolean(want.for) && part.dataset.purpose !== want.for;
      });
      all(".beside [data-ram]").forEach(function (item) {
        item.classList.toggle("asked", Boolean(want.ram) && item.dataset.ram === want.ram);
      });
      all("table.profile").forEach(function (table) {
        table.toggleAttribute("data-only", Boolean(want.ram));
        Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
          const other = Boolean(want.ram) && head.dataset.ram !== undefined && head.dataset.ram !== want.ram;
          Array.from(table.rows).forEach(function (row) { row.cells[column].hidden = other; });
        });
      });
      keep(want);
    }
    form.addEventListener("input", apply);
    form.hidden = false;
    apply();
  });

  // commands with a button that copies them
  function withCopy(block) {
    const button = made("button", "Copy", "copy");
    const around = made("div", "", "command");
    button.type = "button";
    button.addEventListener("click", function () {
      const text = block.textContent.trim();
      const done = function () { button.textContent = "Copied"; };
      const hand = function () {
        getSelection().selectAllChildren(block);
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, hand);
      else hand();
    });
    block.replaceWith(around);
    around.append(block, button);
  }
  all("pre.cmd").forEach(withCopy);

  function commandBox(words, label) {
    const box = made("pre", "", "cmd");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", label);
    box.append(made("code", words));
    return box;
  }

  // the field for a card
  const NOISE = /\b(nvidia|amd|intel|ati|apple|geforce|radeon|graphics|card|gpu|vram|mac ?book( pro| air)?|mac( studio| mini| pro)?)\b/g;
  const SIZE = /\b(\d+) ?gi?b\b/i;
  function key(text) {
    return text.toLowerCase().replace(/laptop|notebook/g, "mobile").replace(NOISE, "").replace(/[^a-z0-9]/g, "");
  }
  function matches(cards, typed) {
    const found = called(cards, typed), size = typed.match(SIZE);
    if (found.length || !size) return found;
    // how much memory a card has, which is no part of its name; of what shares the machine's anything may be said
    return called(cards.filter(function (card) {
      return !card.memory || Math.round(card.memory / 1024) === Number(size[1]);
    }), typed.replace(SIZE, ""));
  }
  function called(cards, typed) {
    const wanted = key(typed);
    if (!wanted) return [];
    const parts = typed.toLowerCase().split(/[^a-z0-9]+/).map(key).filter(Boolean);
    const sized = new RegExp("^" + wanted + "[1-9]\\d{0,2}gb$");
    const found = [];
    cards.forEach(function (card, place) {
      const name = card.key, bare = name.replace(/^(rtx|gtx|rx|arc|tesla|quadro)/, "");
      let rank = -1;
      if (name === wanted || bare === wanted) rank = 0;
      else if (sized.test(bare) || sized.test(name)) rank = 1;
      else if (bare.startsWith(wanted) || name.startsWith(wanted)) rank = 2;
      else if (name.includes(wanted)) rank = 3;
      else if (parts.every(function (part) { return name.includes(part); })) rank = 4;
      // of one product in several sizes the index decides: the one that came out first
      if (rank >= 0) found.push([rank + (card.page ? 0 : 0.5), rank === 1 ? 0 : name.length, place, card]);
    });
    found.sort(function (a, b) { return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]; });
    return found.slice(0, 8).map(function (one) { return one[3]; });
  }
  all("form.entry").forEach(function (form) {
    const field = form.elements.card, list = document.getElementById("cards"), told = document.getElementById("found");
    let cards = null, shown = [], at = -1, chosen = null, loading = null;
    function load() {
      loading = loading || fetch(form.dataset.index).then(function (reply) { return reply.json(); }).then(function (data) {
        cards = data.cards.map(function (row) {
          return { name: row[0], slug: row[1], memory: row[2], page: row[3], key: key(row[0]) };
        });
      }, function () { told.textContent = "The list of cards cannot be loaded; choose one below."; });
      return loading;
    }
    function close() {
      list.hidden = true;
      at = -1;
      field.setAttribute("aria-expanded", "false");
      field.removeAttribute("aria-activedescendant");
    }
    function mark(place) {
      at = place;
      Array.from(list.children).forEach(function (item, index) { item.setAttribute("aria-selected", String(index === at)); });
      if (at >= 0) field.setAttribute("aria-activedescendant", "card-" + at);
      else field.removeAttribute("aria-activedescendant");
    }
    function suggest() {
      chosen = null;
      load().then(function () {
        if (!cards) return;
        shown = matches(cards, field.value);
        list.replaceChildren(...shown.map(function (card, index) {
          const item = made("li", card.name);
          item.id = "card-" + index;
          item.setAttribute("role", "option");
          item.setAttribute("aria-selected", "false");
          const size = card.memory ? Math.round(card.memory / 102.4) / 10 + " GB" : "shared memory";
          item.append(made("small", size + (card.page ? "" : ", no page of its own")));
          item.addEventListener("mousedown", function (event) { event.preventDefault(); pick(card); });
          return item;
        }));
        list.hidden = !shown.length;
        field.setAttribute("aria-expanded", String(Boolean(shown.length)));
        mark(-1);
        told.textContent = field.value.trim() && !shown.length ? "No card of the database is called that." : "";
      });
    }
    function pick(card) {
      chosen = card;
      field.value = card.name;
      close();
    }
    function go(card) {
      const ram = form.elements.ram.value, what = form.elements.for.value;
      if (card.page) {
        location.href = form.dataset.root + "cards/" + card.slug + "/?" +
          new URLSearchParams(what ? { ram: ram, for: what } : { ram: ram }) + "#runs";
        return;
      }
      const words = "fitcheck runs --gpu " + card.slug + " --ram " + ram + "GB" + (what ? " --for " + what : "");
      const box = commandBox(words, "Command for this card");
      told.replaceChildren(made("p", card.name + " has no page of its own here. This line gives its exact answer:"), box);
      withCopy(box);
    }
    field.addEventListener("focus", load);
    field.addEventListener("input", suggest);
    field.addEventListener("blur", close);
    field.addEventListener("keydown", function (event) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) { suggest(); return; }
        const step = event.key === "ArrowDown" ? 1 : -1;
        mark((at + step + shown.length) % shown.length);
      } else if (event.key === "Escape") {
        close();
      } else if (event.key === "Enter" && at >= 0) {
        event.preventDefault();
        pick(shown[at]);
      }
    });
    form.addEventListener("submit", function (event) {
      event.preventDefault();
      load().then(function () {
        const card = chosen || (cards && matches(cards, field.value)[0]);
        close();
        if (card) go(card);
        else told.textContent = field.value.trim() ? "No card of the database is called that." : "Type the name of a card.";
        told.scrollIntoView({ block: "nearest" });  // on a phone it stands below what is seen
      });
    });
    form.hidden = false;
  });

  // an address without a page: of two cards it leads to where any two are compared, of a model or a card the line that
  // answers it is shown
  const missing = document.getElementById("missing");
  if (missing) {
    const path = location.pathname;
    const two = path.match(/\/compare\/([a-z0-9.-]+)-vs-([a-z0-9.-]+)\/?$/);
    const cell = path.match(/\/check\/([a-z0-9.-]+)(?:\/([a-z0-9.-]+))?\/?$/), one = path.match(/\/cards\/([a-z0-9.-]+)\/?$/);
    if (two) location.replace(missing.dataset.root + "compare/?" + new URLSearchParams({ a: two[1], b: two[2] }));
    const line = cell ? "fitcheck check " + cell[1] + (cell[2] ? " --gpu " + cell[2] : "") : one ? "fitcheck runs --gpu " + one[1] : "";
    if (line) {
      missing.append(made("p", "What this address asks for, this line answers on your own machine:"), commandBox(line, "Command for this address"));
      all("pre.cmd", missing).forEach(withCopy);
      missing.hidden = false;
    }
  }

  // any two cards side by side, from what their pages say
  const VERDICTS = { fits: "Fits", tight: "Tight", unknown: "Unknown", no: "No" };
  all("form[data-compare]").forEach(function (form) {
    const side = document.getElementById("side");
    const page = function (slug) {
      return fetch("../cards/" + slug + "/").then(function (reply) {
        if (!reply.ok) throw new Error(reply.status);
        return reply.text();
      }).then(function (text) { return new DOMParser().parseFromString(text, "text/html"); });
    };
    const nameOf = function (data) { return data.querySelector("h1").firstChild.textContent.trim(); };
    const priceOf = function (data) {
      const price = data.querySelector("[data-n='card.launch_price_usd.value:dollars']").textContent;
      return price === "unknown" ? "launch price unknown" : price + " at launch";
    };
    // verdicts beside 32 GB, or in the memory that the card shares
    function cellsOf(data) {
      const found = new Map();
      all("[data-purpose]", data).forEach(function (purpose) {
        const heads = Array.from(purpose.querySelector("thead tr").cells);
        const column = Math.max(1, heads.findIndex(function (head) { return head.dataset.ram === "32"; }));
        all("tbody tr", purpose).forEach(function (row) {
          const lead = row.cells[0].querySelector("a"), cell = row.cells[column];
          found.set(purpose.dataset.purpose + ": " + lead.textContent, {
            address: lead.getAttribute("href").replace("../../", "../"),
            verdict: cell.querySelector("em").textContent.toLowerCase(),
            said: all("span,i", cell).map(function (one) { return one.textContent; })
          });
        });
      });
      return found;
    }
    function show(pair) {
      const sides = pair.map(cellsOf), table = made("table", "", "rows"), head = table.createTHead().insertRow();
      ["Model"].concat(pair.map(nameOf)).forEach(function (name) {
        const cell = made("th", name);
        cell.scope = "col";
        head.append(cell);
      });
      const body = table.createTBody();
      sides[0].forEach(function (_, name) {
        const row = body.insertRow(), first = made("th", name);
        first.scope = "row";
        row.append(first);
        sides.forEach(function (cells, index) {
          const cell = row.insertCell(), one = cells.get(name);
          cell.dataset.label = nameOf(pair[index]);
          if (!one) return;
          const lead = link("", one.address);
          lead.append(made("em", VERDICTS[one.verdict], "v-" + one.verdict));
          lead.setAttribute("aria-label", VERDICTS[one.verdict] + ": " + name + " on " + nameOf(pair[index]));
          cell.append(lead, ...one.said.map(function (text) { return made("span", text, "what"); }));
        });
      });
      const words = pair.map(nameOf).join(" and ");
      const around = made("div", "", "scroll");
      around.tabIndex = 0;
      around.setAttribute("role", "region");
      around.setAttribute("aria-label", "Side by side");
      around.append(table);
      const prices = made("p", pair.map(function (data) { return nameOf(data) + ": " + priceOf(data); }).join("; "), "note");
      side.replaceChildren(made("h2", words + ", beside 32 GB"), prices, around);
    }
    function load() {
      const want = Object.fromEntries(new FormData(form));
      keep(want);
      Promise.all([page(want.a), page(want.b)]).then(show, function () {
        side.textContent = "The two pages cannot be loaded.";
      });
    }
    ["a", "b"].forEach(function (name) { if (asked.get(name)) form.elements[name].value = asked.get(name); });
    form.addEventListener("submit", function (event) { event.preventDefault(); load(); });
    form.hidden = false;
    if (asked.get("a") && asked.get("b")) load();
  });
})();
