"use strict";
// The gallery, the large view and the map. Every text goes in as text: nothing here parses markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const [INDEX, SEED, CHUNK, THUMB, NEAR, NEARKEY, DISTANCE, COPY, FILE] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [KIND, LABEL, X, Y, KEY, PICTURE] = [0, 1, 2, 3, 4, 5];
  let set = data.sets[0];

  function make(tag, text, attributes = {}) {
    const node = document.createElement(tag);
    if (text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  // ---- gallery: a class is filled when it comes near the window ----
  const classes = find("classes");
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) fill(entry.target);
  }, { rootMargin: "800px" });

  function gallery() {
    near.disconnect();
    const made = set.classes.map((one, at) => {
      const section = make("section", null, { class: "class" });
      const head = make("h3", one.name, { dir: "auto" });
      const count = one.images.length === one.total ? `${one.total}` : `${one.images.length} of ${one.total}`;
      head.append(make("small", count));
      const list = make("ul", null, { class: "pictures", role: "list" });
      list.append(...one.images.map(() => make("li", null)));  // places of their full size: nothing moves later
      section.append(head, list);
      section.at = at;
      near.observe(section);
      return section;
    });
    classes.replaceChildren(...made);
    const most = Math.max(0, ...set.classes.map((one) => one.images.length));  // classes of few images share a row
    classes.style.setProperty("--wide", `${Math.max(10, 4.875 * most)}rem`);
    filter();
  }

  function fill(section) {
    near.unobserve(section);
    const list = section.lastChild;
    if (list.querySelector("button")) return;
    const one = set.classes[section.at];
    one.images.forEach((image, at) => {
      const button = make("button", null, { type: "button" });
      const name = `${one.name}, image ${image[INDEX]}${image[COPY] ? ", near-copy" : ""}`;
      if (image[THUMB]) {
        const picture = make("img", null, { src: image[THUMB], alt: name, loading: "lazy", decoding: "async" });
        if (set.side <= 32) picture.className = "pixels";
        button.append(picture);
      } else {
        button.append(make("span", "deleted", { class: "gone" }));
        button.setAttribute("aria-label", `${name}, deleted`);
      }
      if (image[COPY]) {
        button.className = "copy";
        button.title = "near-copy: closer to a real image than that image's own nearest real neighbour";
      }
      button.addEventListener("click", () => show(section.at, at));
      list.children[at].append(button);
    });
  }

  function filter() {
    const wanted = find("find").value.trim().toLowerCase();
    let left = 0;
    for (const section of classes.children) {
      section.hidden = !set.classes[section.at].name.toLowerCase().includes(wanted);
      left += section.hidden ? 0 : 1;
    }
    find("counted").textContent = wanted ? `${left} of ${set.classes.length} classes` : "";
  }
  find("find").addEventListener("input", filter);
  let opened = [];
  window.addEventListener("beforeprint", () => {  // paper cannot be clicked
    [...classes.children].forEach(fill);
    opened = [...document.querySelectorAll("details:not([open], .figures details)")];
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
  for (const radio of document.querySelectorAll('input[name="set"]')) {
    radio.addEventListener("change", () => { set = data.sets[Number(radio.value)]; gallery(); maps(); });
  }

  // ---- one picture, large ----
  const view = find("view");
  let place = [0, 0];

  function commandOf(one, image) {
    return `${set.command} ${one.only[0]}${image[INDEX]}${one.only[1]}`;
  }

  function show(at, index) {
    place = [at, index];
    const one = set.classes[at], image = one.images[index], real = image[NEAR] >= 0 ? set.nearest[image[NEAR]] : null;
    find("v-title").textContent = `${one.name}, image ${image[INDEX]}`;
    picture(find("v-own"), image[THUMB], `Synthetic image ${image[INDEX]} of ${one.name}`);
    picture(find("v-real"), real, `Nearest real image of ${one.name}, ${image[NEARKEY]}`);
    find("v-realname").textContent = image[NEARKEY]
      ? `nearest real image: ${image[NEARKEY]}${real ? "" : " (its picture is not at hand)"}`
      : "nearest real image: not measured";
    const facts = [["Seed", image[SEED]], ["File", image[FILE]], ["Chunk", `${image[CHUNK]}`]];
    if (image[DISTANCE] !== null) facts.push(["Distance to it", image[DISTANCE].toPrecision(3)]);
    if (image[COPY] !== null) facts.push(["Near-copy", image[COPY] ? "yes" : "no"]);
    find("v-facts").replaceChildren(...facts.map(([name, value]) => {
      const row = make("div", null);
      row.append(make("dt", name), make("dd", value));
      return row;
    }));
    find("v-note").textContent = set.coupled
      ? `The images of a class influence each other: the command makes chunk ${image[CHUNK]} with all of its images again.`
      : `The command makes exactly this image again, with the others of chunk ${image[CHUNK]}.`;
    find("v-command").replaceChildren(...commandOf(one, image).split(" ").flatMap((word) => [make("span", word), " "]).slice(0, -1));
    find("v-copied").textContent = "";
    if (!view.open) view.showModal();
  }

  function picture(img, source, alt) {
    img.hidden = !source;
    if (source) img.src = source; else img.removeAttribute("src");
    img.alt = alt;
    img.className = set.side <= 64 ? "pixels" : "";
  }

  function step(by) {
    let [at, index] = place;
    index += by;
    while (set.classes[at] && !set.classes[at].images[index]) {
      at += by;
      index = by > 0 ? 0 : set.classes[at] ? set.classes[at].images.length - 1 : 0;
    }
    if (set.classes[at]) show(at, index);
  }
  find("v-close").addEventListener("click", () => view.close());
  find("v-before").addEventListener("click", () => step(-1));
  find("v-after").addEventListener("click", () => step(1));
  view.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  view.addEventListener("click", (event) => { if (event.target === view) view.close(); });
  find("v-copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(find("v-command").textContent);
      find("v-copied").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(find("v-command"));
      find("v-copied").textContent = "Selected: copy it with Ctrl+C";
    }
  });

  // ---- the map ----
  const canvas = find("canvas"), tip = find("tip");
  let map = null, off = new Set(), marked = -1, places = [];

  function maps() {
    if (!canvas) return;
    if (find("mapset")) find("mapset").textContent = set.name;
    const choice = find("mapchoice"), names = { train: "training", test: "test" };
    choice.replaceChildren(choice.firstElementChild, ...set.maps.map((one, at) => {
      const label = make("label", null, { class: "pill" });
      const radio = make("input", null, { type: "radio", name: "map", value: at });
      radio.checked = at === 0;
      radio.addEventListener("change", () => useMap(set.maps[at]));
      label.append(radio, make("span", names[one.name] || one.name));
      return label;
    }));
    useMap(set.maps[0] || null);
  }

  function useMap(one) {
    map = one;
    marked = -1;
    const legend = find("legend");
    const labels = map ? [...new Set(map.points.map((p) => p[LABEL]))].sort((a, b) => a - b) : [];
    legend.replaceChildren(legend.firstElementChild, ...labels.map((label) => {
      const row = make("label", null);
      const box = make("input", null, { type: "checkbox", value: label });
      box.checked = !off.has(map.classes[label]);
      box.addEventListener("change", () => {
        if (box.checked) off.delete(map.classes[label]); else off.add(map.classes[label]);
        draw();
      });
      const sample = make("canvas", null, { width: 32, height: 32, "aria-hidden": "true" });
      const pen = sample.getContext("2d");
      mark(pen, 16, 16, 11, label);
      pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      pen.stroke();
      row.append(box, sample, make("span", map.classes[label], { dir: "auto" }));
      return row;
    }));
    draw();
  }

  function mark(pen, x, y, r, label) {
    const shape = Math.floor(label / 8) % 4;
    pen.fillStyle = data.colours[dark.matches ? "dark" : "light"][label % 8];
    pen.beginPath();
    if (shape === 0) pen.arc(x, y, r, 0, 7);
    if (shape === 1) pen.rect(x - r * 0.9, y - r * 0.9, 1.8 * r, 1.8 * r);
    if (shape === 2) { pen.moveTo(x, y - r * 1.1); pen.lineTo(x + r * 1.1, y + r); pen.lineTo(x - r * 1.1, y + r); }
    if (shape === 3) { pen.moveTo(x, y - r * 1.3); pen.lineTo(x + r * 1.3, y); pen.lineTo(x, y + r * 1.3); pen.lineTo(x - r * 1.3, y); }
    pen.closePath();
    pen.fill();
  }

  function draw() {
    const box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1, edge = 18;
    if (!box.width) return;
    canvas.width = box.width * dense;
    canvas.height = box.height * dense;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(dense, dense);
    const large = box.width < 500 ? 4 : 5.5, line = style.getPropertyValue("--ink");
    places = map ? map.points.map((p) => off.has(map.classes[p[LABEL]]) ? null
      : [edge + p[X] * (box.width - 2 * edge), edge + (1 - p[Y]) * (box.height - 2 * edge)]) : [];
    for (const kind of [-1, 0]) {
      places.forEach((at, k) => {
        const point = map.points[k];
        if (!at || point[KIND] !== kind) return;
        mark(pen, at[0], at[1], kind ? large / 2.5 : large, point[LABEL]);
        if (!kind) { pen.strokeStyle = line; pen.lineWidth = 1; pen.stroke(); }
      });
    }
    if (marked >= 0 && places[marked]) {
      pen.strokeStyle = line;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(places[marked][0], places[marked][1], 10, 0, 7);
      pen.stroke();
    }
    hint();
  }

  function own(point) { // where a synthetic point's picture is in the gallery
    const name = map.classes[point[LABEL]];
    const at = set.classes.findIndex((one) => one.name === name);
    const index = at < 0 ? -1 : set.classes[at].images.findIndex((image) => image[FILE] === point[KEY]);
    return index < 0 ? null : [at, index];
  }

  function hint() {
    const point = marked >= 0 && places[marked] ? map.points[marked] : null;
    tip.hidden = !point;
    find("point").textContent = "";
    if (!point) return;
    const where = point[KIND] ? null : own(point);
    const source = where ? set.classes[where[0]].images[where[1]][THUMB] : point[PICTURE] >= 0 ? map.real[point[PICTURE]] : null;
    const text = `${map.classes[point[LABEL]]}, ${point[KIND] ? "real" : "synthetic"}, ${point[KEY]}`;
    const [img, span] = tip.children;
    img.hidden = !source;
    if (source) img.src = source;
    img.className = set.side <= 64 ? "pixels" : "";
    span.textContent = text;
    find("point").textContent = text;
    const width = canvas.clientWidth, x = places[marked][0], y = places[marked][1];
    tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y > tip.offsetHeight + 20 ? y - tip.offsetHeight - 12 : y + 14}px`;
  }

  function closest(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = 16 ** 2, found = -1;
    places.forEach((at, k) => {
      if (!at) return;
      const d = (at[0] - x) ** 2 + (at[1] - y) ** 2 - (map.points[k][KIND] ? 0 : 30);
      if (d < best) { best = d; found = k; }
    });
    return found;
  }

  function pick(k) { if (k !== marked) { marked = k; draw(); } }
  function open() {
    const where = marked >= 0 && !map.points[marked][KIND] ? own(map.points[marked]) : null;
    if (where) show(...where);
  }

  if (canvas) {
    canvas.addEventListener("pointermove", (event) => pick(closest(event)));
    canvas.addEventListener("pointerleave", () => pick(-1));
    canvas.addEventListener("click", (event) => { pick(closest(event)); open(); });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
      if (event.key === "Escape") pick(-1);
      if (!by || !places.some(Boolean)) return;
      event.preventDefault();
      let k = marked;
      do k = (k + by + places.length) % places.length; while (!places[k]);
      pick(k);
    });
    const all = (on) => {
      for (const box of find("legend").querySelectorAll("input")) if (box.checked !== on) box.click();
    };
    find("all").addEventListener("click", () => all(true));
    find("none").addEventListener("click", () => all(false));
    new ResizeObserver(draw).observe(canvas);
    dark.addEventListener("change", () => useMap(map));
  }

  gallery();
  maps();
})();
