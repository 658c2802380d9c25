"use strict";

const form = document.getElementById("form");
const input = document.getElementById("image");
const drop = document.getElementById("drop");
const picture = document.getElementById("query");
const status = document.getElementById("status");
const list = document.getElementById("found");
let asked = 0; // an answer counts only if nothing was asked since

// Names go into the page as text alone, never as markup.
function line(text, kind) {
  const element = document.createElement("p");
  element.textContent = text;
  element.className = kind;
  return element;
}

function say(text, isError = false) {
  status.textContent = text;
  status.className = isError ? "error" : "";
}

function item(image) {
  const element = document.createElement("li");
  const picture = document.createElement("img");
  picture.alt = `image ${image.rank}`;
  picture.onerror = () =>
    picture.replaceWith(line("The image is not where it was.", "missing"));
  picture.src = `/images/${image.id}`;
  element.append(
    picture,
    line(`${image.rank}. distance ${Number(image.distance.toPrecision(6))}`, "distance"),
    line(`person ${image.person ?? "?"}, camera ${image.camera ?? "?"}`, "who"),
  );
  if (typeof image.is_same_person === "boolean") {
    element.className = image.is_same_person ? "same" : "other";
    const verdict = image.is_same_person ? "✓ same person" : "✗ another person";
    element.append(line(verdict, "verdict"));
  }
  element.append(line(image.path, "path"));
  return element;
}

async function ask() {
  if (!input.files.length) return;
  const number = ++asked;
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(input.files[0]);
  picture.hidden = false;
  document.getElementById("hint").hidden = true;
  list.replaceChildren();
  say("Searching …");
  let answer;
  try {
    const response = await fetch("/query", { method: "POST", body: new FormData(form) });
    answer = await response.json();
  } catch {
    answer = { error: "There is no answer: does `topdb-tf index browse` still run?" };
  }
  if (number !== asked) return;
  if (answer.error) return say(answer.error, true);
  const query = answer.queries[0];
  list.replaceChildren(...query.found.map(item));
  const count = query.found.length;
  const seconds = (answer.embedding_seconds + answer.search_seconds).toFixed(2);
  say(count ? `${query.path}: ${count} images, ${seconds} s` : `${query.path}: nothing so near`);
}

form.addEventListener("change", ask);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      ask();
    }
  });
}
