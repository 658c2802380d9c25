// Ranked lists: cards are made from the data of the page, as text and never as markup.
(function () {
  const source = document.getElementById("data");
  const form = document.getElementById("filters");
  if (!source || !form) return;
  const data = JSON.parse(source.textContent);
  const cards = document.getElementById("cards");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const AT_ONCE = 30;
  const KINDS = ["wrong", "match", "junk"];
  const MARKS = ["\u2717", "\u2713", "\u2013"];
  const WORDS = ["another person", "same person", "same person, not ranked for this query"];
  let shown = [];
  let drawn = 0;

  const KEEP = {
    all: () => true,
    wrong: (query, by) => query.first[by] !== 1,
    right: (query, by) => query.first[by] === 1,
    better: (query) => query.ap[1] > query.ap[0],
    worse: (query) => query.ap[1] < query.ap[0],
    differ: (query) => query.first.some((rank) => (rank === 1) !== (query.first[0] === 1)),
  };
  const range = (query) => Math.max(...query.ap) - Math.min(...query.ap);
  const ORDER = {
    chosen: () => 0,
    lowest: (a, b, by) => a.ap[by] - b.ap[by],
    highest: (a, b, by) => b.ap[by] - a.ap[by],
    first: (a, b, by) => b.first[by] - a.first[by],
    change: (a, b) => range(b) - range(a),
    name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  };
  const percent = (share) =>
    share > 0 && share < 0.0005 ? "below 0.1 %" : (100 * share).toFixed(1) + " %";

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function picture(number, words) {
    const image = element("img");
    image.src = "data:image/webp;base64," + data.images[number];
    image.alt = words;
    image.decoding = "async";
    return image;
  }

  function rankOf(list, place) {
    return list.slice(0, place + 1).filter((shot) => shot[2] !== 2).length;
  }

  function shotOf(list, place) {
    const [number, distance, kind] = list[place];
    const [name, person, camera, image] = data.gallery[number];
    const item = element("li", "shot " + KINDS[kind]);
    const rank = kind === 2 ? "left out" : "rank " + rankOf(list, place);
    item.append(picture(image, `${rank}: ${WORDS[kind]}, person ${person}, camera ${camera}`));
    item.title = `${name}\nperson ${person}, camera ${camera}\ndistance ${distance}`;
    const caption = element("span", "", kind === 2 ? "" : rankOf(list, place) + " ");
    caption.append(element("span", "mark", MARKS[kind]));
    item.append(caption);
    return item;
  }

  function listOf(query, which) {
    const box = element("div", "list");
    const line = element("p");
    line.append(element("b", "", data.lists[which]), ` AP ${percent(query.ap[which])}, `);
    line.append(`first match at rank ${query.first[which].toLocaleString("en")}`);
    const strip = element("ol", "strip");
    query.ranked[which].forEach((shot, place) => {
      if (shot[2] !== 2 || (form.elements.junk && form.elements.junk.checked)) {
        strip.append(shotOf(query.ranked[which], place));
      }
    });
    box.append(line, strip);
    return box;
  }

  function tableOf(query, lists) {
    const scroll = element("div", "scroll");
    const table = element("table", "left");
    const head = element("tr");
    for (const text of ["list", "rank", "", "person", "camera", "distance", "file"]) {
      const cell = element("th", "", text);
      cell.scope = "col";
      head.append(cell);
    }
    const body = element("tbody");
    for (const which of lists) {
      query.ranked[which].forEach(([number, distance, kind], place) => {
        const [name, person, camera] = data.gallery[number];
        const rank = kind === 2 ? "\u2013" : rankOf(query.ranked[which], place);
        const row = element("tr");
        for (const text of [data.lists[which], rank, WORDS[kind], person, camera, distance, name]) {
          row.append(element("td", "", text));
        }
        body.append(row);
      });
    }
    const top = element("thead");
    top.append(head);
    table.append(top, body);
    scroll.append(table);
    return scroll;
  }

  function cardOf(query, lists) {
    const card = element("article", "card");
    card.append(element("h3", "", query.name));
    const meta = element("p", "meta");
    for (const text of [`person ${query.person}`, `camera ${query.camera}`, query.reason]) {
      meta.append(element("span", "", text));
    }
    const ranking = element("div", "ranking");
    const shot = element("div", "shot query");
    shot.append(picture(query.image, `query: person ${query.person}, camera ${query.camera}`), "query");
    const boxes = element("div", "lists");
    for (const which of lists) boxes.append(listOf(query, which));
    ranking.append(shot, boxes);
    const names = element("details");
    names.append(element("summary", "", "Names and distances"));
    names.addEventListener("toggle", () => {
      if (names.children.length === 1) names.append(tableOf(query, lists));
    }, { once: true });
    card.append(meta, ranking, names);
    return card;
  }

  function chosenLists() {
    return [...form.querySelectorAll("[name=list]")]
      .filter((box) => box.checked)
      .map((box) => Number(box.value));
  }

  // The name of a person finds that person alone; other text is looked for in names.
  const persons = new Set(data.queries.map((query) => query.person.toLowerCase()));
  function fits(query, text) {
    const person = query.person.toLowerCase();
    if (persons.has(text)) return person === text;
    return person.includes(text) || query.name.toLowerCase().includes(text);
  }

  function drawMore(number) {
    const lists = chosenLists();
    const next = shown.slice(drawn, drawn + number);
    for (const query of next) cards.append(cardOf(query, lists));
    drawn += next.length;
    more.hidden = drawn === shown.length;
    more.textContent = `Show more (${shown.length - drawn} left)`;
  }

  function draw() {
    const by = form.elements.by ? Number(form.elements.by.value) : 0;
    const camera = form.elements.camera.value;
    const text = form.elements.text.value.trim().toLowerCase();
    const show = form.elements.show.value;
    const keep = KEEP[show] || ((query) => query.reason === show);
    const order = ORDER[form.elements.sort.value];
    shown = data.queries.filter((query) =>
      keep(query, by)
      && (!camera || query.camera === camera)
      && (!text || fits(query, text)));
    shown = shown.slice().sort((a, b) => order(a, b, by));
    cards.replaceChildren();
    drawn = 0;
    count.textContent = `${shown.length} of the ${data.queries.length} queries in this page`;
    if (!shown.length) cards.append(element("p", "empty", "No query fits these filters."));
    drawMore(AT_ONCE);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", draw);
  form.addEventListener("reset", () => setTimeout(draw));
  more.addEventListener("click", () => drawMore(AT_ONCE));
  addEventListener("beforeprint", () => drawMore(shown.length));
  draw();
})();
