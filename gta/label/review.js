// The page of a review. All that a user or a file named comes as JSON and is set as text, never as markup.
"use strict";

const DIGITS = "1234567890";
const SHOWN = 10; // classes that have a button, and a digit, at once
const at = id => document.getElementById(id);
const skipped = new Set();
const waiting = new Map(); // answers that are on their way, by image
let round, current = 0, queue = Promise.resolve(), failures = 0;

const answer = i => waiting.get(i) ?? round.answers[i];
const answers = () => round.images.map((_, i) => answer(i));
const none = () => round.classes.length, unsure = () => round.classes.length + 1;
const called = label => label === none() ? "none of these" : label === unsure() ? "unsure" : round.classes[label];

async function ask(path, body) {
  const how = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(path, how);
  } catch {
    throw new Error("Not kept: the command in the terminal has ended. Start it again and open the address that it prints; all earlier answers are kept.");
  }
  if (!reply.ok) throw new Error(`Not kept: ${await reply.text()}`);
  return reply.json();
}

// One thing after another. Where one fails, what was waiting behind it is dropped: nobody has seen that it was not kept.
function then(work, image = null) {
  const before = failures;
  queue = queue.then(async () => {
    if (failures !== before) return;
    try {
      await work();
      at("alert").hidden = true;
    } catch (error) {
      failures++;
      waiting.clear();
      if (image !== null) current = image;
      at("alert").textContent = error.message;
      at("alert").hidden = false;
    }
    if (round) show();
  });
}

function next() {
  const order = round.images.map((_, k) => (current + 1 + k) % round.images.length);
  const open = order.filter(i => answer(i) === null);
  current = open.find(i => !skipped.has(i)) ?? open[0] ?? current;
}

// The next image is shown at once, so that a key always means the image that is seen.
function say(label) {
  const image = current;
  waiting.set(image, label);
  skipped.delete(image);
  next();
  show();
  then(async () => {
    Object.assign(round, await ask("answer", { image, label }));
    if (waiting.get(image) === label) waiting.delete(image);
  }, image);
}

function undo() {
  then(async () => {
    const last = round.last, changes = round.changes;
    Object.assign(round, await ask("undo", { changes }));
    if (last !== null) current = last;
  });
}

function skip() {
  skipped.add(current);
  next();
  show();
}

function step(by) {
  current = (current + by + round.images.length) % round.images.length;
  show();
}

function accept() {
  if (answers().every(label => label !== null)) finish();
  else if (round.images[current].proposal !== null) say(round.images[current].proposal);
}

function finish() {
  then(async () => {
    await ask("finish", {});
    at("round").hidden = true;
    at("end").hidden = false;
    at("end").focus();
  });
}

// The classes that have a button now: all of a few; of many those that are searched for, or the likeliest and those answered last.
function offered() {
  const all = [...round.classes.keys()], word = at("search").value.trim().toLowerCase();
  if (all.length <= SHOWN) return all;
  if (word) {
    const begins = all.filter(j => round.classes[j].toLowerCase().startsWith(word));
    return [...new Set([...begins, ...all.filter(j => round.classes[j].toLowerCase().includes(word))])].slice(0, SHOWN);
  }
  const image = round.images[current];
  const likely = [image.proposal, image.runner_up, ...answers()].filter(j => j !== null && j < none());
  return [...new Set(likely)].slice(0, SHOWN);
}

function buttons() {
  at("classes").replaceChildren(...offered().map((label, k) => {
    const button = document.createElement("button"), key = document.createElement("kbd"), name = document.createElement("bdi");
    button.type = "button";
    key.textContent = DIGITS[k];
    name.textContent = round.classes[label];
    button.append(key, " ", name);
    button.setAttribute("aria-pressed", String(answer(current) === label));
    button.addEventListener("click", () => { leaveSearch(); say(label); });
    return button;
  }));
}

function show() {
  const image = round.images[current], done = answers().filter(label => label !== null).length, all = round.images.length;
  at("progress").textContent = `${done} of ${all} answered; image ${current + 1}`;
  at("bar").max = all;
  at("bar").value = done;
  document.title = `${done} of ${all} answered`;
  const source = `image/${current}`;
  if (at("picture").getAttribute("src") !== source) at("picture").src = source;
  at("picture").alt = `image ${current + 1} of ${all}, ${image.name}`;
  at("name").textContent = image.name;
  at("proposal").replaceChildren(...proposal(image));
  at("said").textContent = done === all ? "All are answered. Enter finishes the round, u takes the last answer back."
    : answer(current) === null ? "" : `Your answer: ${called(answer(current))}`;
  at("none").setAttribute("aria-pressed", String(answer(current) === none()));
  at("unsure").setAttribute("aria-pressed", String(answer(current) === unsure()));
  at("undo").disabled = round.changes === 0;
  buttons();
}

function proposal(image) {
  if (image.proposal === null) return ["No label is proposed."];
  const name = document.createElement("bdi"), strong = document.createElement("b"), parts = ["Proposed: ", strong, ` ${image.confidence.toFixed(2)}`];
  name.textContent = round.classes[image.proposal];
  strong.append(name);
  if (image.runner_up !== null) {
    const other = document.createElement("bdi");
    other.textContent = round.classes[image.runner_up];
    parts.push(", or ", other);
  }
  return parts;
}

function leaveSearch() {
  at("search").value = "";
  at("search").blur();
}

const KEYS = {
  Enter: accept, n: () => say(none()), x: () => say(unsure()), s: skip, u: undo, f: finish,
  ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  "/": () => at("search").focus(),
};

document.addEventListener("keydown", event => {
  if (!round || at("round").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target === at("search")) {
    if (event.key === "Escape") { leaveSearch(); show(); event.preventDefault(); }
    if (event.key === "Enter" && at("search").value.trim() && offered().length) {
      const label = offered()[0];
      leaveSearch();
      say(label);
      event.preventDefault();
    }
    return;
  }
  if (event.key === "Enter" && event.target.tagName === "BUTTON") return; // the button itself is pressed
  const label = DIGITS.includes(event.key) ? offered()[DIGITS.indexOf(event.key)] : undefined;
  const act = label !== undefined ? () => say(label) : KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});

// Another tab may have answered in the meantime.
window.addEventListener("focus", () => {
  if (round && at("end").hidden) then(async () => { Object.assign(round, await ask("state")); });
});

at("search").addEventListener("input", buttons);
at("picture").addEventListener("load", () => at("picture").classList.toggle("tiny", at("picture").naturalWidth < 96));
for (const [id, act] of Object.entries({ none: () => say(none()), unsure: () => say(unsure()), skip, undo, finish, back: () => step(-1), on: () => step(1) })) {
  at(id).addEventListener("click", () => { at(id).blur(); act(); });
}

then(async () => {
  round = await ask("round");
  at("search-box").hidden = round.classes.length <= SHOWN;
  if (round.answers[0] !== null) next();
  at("round").hidden = false;
});
