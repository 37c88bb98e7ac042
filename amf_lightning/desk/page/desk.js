// The page at the robot: looks at the run every second, shows it, and says what people do.

import { answerRows, curve, element, number, rateRows, taskRows } from "./drawing.js";
import { Unusable, look, say, send } from "./talking.js";

const LOOK = 1000; // milliseconds
const RARELY = 5000; // where nobody looks
const $ = (id) => document.getElementById(id);
const word = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16)).join("");
const desk = word();

let view = null;
let shown = ""; // what the page was last made from
let chosen = null; // number of the request on the card
let timer = 0;
let busy = false;

// -- looking ----------------------------------------------------------------------------------------------------------

async function refresh() {
  clearTimeout(timer);
  try {
    const seen = await look(desk, who(), chosen);
    alertOf(seen.error ?? "");
    view = seen;
    if (!seen.error) choose();
    const text = JSON.stringify([seen, chosen]);
    if (!seen.error && text !== shown) show();
    shown = text;
  } catch (error) {
    alertOf(error instanceof Unusable ? error.message : "The desk cannot be reached. This page tries again.");
  }
  timer = setTimeout(refresh, document.hidden ? RARELY : LOOK);
}

function alertOf(text) {
  $("alert").hidden = !text;
  if ($("alert").textContent !== text) $("alert").textContent = text;
}

const who = () => $("by").value.trim() || view?.by || "";

// Keeps the request that is shown while it is open; else takes the first at which nobody else is.
function choose() {
  const open = view.requests.map((request) => request.number);
  if (chosen !== null && open.includes(chosen)) return;
  const taken = view.others.map((other) => other.request);
  chosen = open.find((each) => !taken.includes(each)) ?? open[0] ?? null;
}

const card = () => view?.requests?.find((request) => request.number === chosen) ?? null;

// -- showing ----------------------------------------------------------------------------------------------------------

function show() {
  document.title = card() ? `${card().task} – amf desk` : "amf desk";
  $("run").textContent = view.run;
  $("state").textContent = view.state;
  $("state").className = `pill ${view.state}`;
  const budget = view.budget === null ? "" : ` of ${view.budget}`;
  $("progress").textContent = `${view.demonstrations}${budget} demonstrations`;
  $("by").placeholder = view.by;
  $("now").textContent = view.now;
  $("then").replaceChildren(...withCode(view.next_step));
  showCard();
  showTrials();
  const known = view.curve.filter(([, score]) => score !== null);
  $("curve").replaceChildren(...(known.length ? [curve(view.curve, $("curve").clientWidth)] : []));
  $("curve-text").textContent = known.length
    ? `Mean score ${number(known.at(-1)[1])} after ${known.at(-1)[0]} demonstrations. ${view.forecast ?? ""}`
    : "No policy has a score yet.";
  $("tasks").tBodies[0].replaceChildren(...taskRows(view.tasks));
  const none = element("li", { class: "quiet" }, "Nobody has answered yet.");
  $("answers").replaceChildren(...(view.answers.length ? answerRows(view.answers) : [none]));
}

function showCard() {
  const request = card();
  const others = view.open - 1;
  $("which").textContent = request
    ? `Request ${request.number}${others > 0 ? `, and ${others} more` : ""}`
    : "No request is open";
  $("turns").hidden = view.requests.length < 2;
  $("task").textContent = request ? request.task : "Nothing to record now";
  const sentences = request ? request.sentences : [`${view.now} ${view.next_step}`];
  $("why").replaceChildren(...sentences.map((sentence) => element("p", {}, ...withCode(sentence))));
  const here = request ? view.others.filter((other) => other.request === request.number) : [];
  $("elsewhere").hidden = here.length === 0;
  const names = [...new Set(here.map((other) => other.by || "somebody"))];
  $("elsewhere").textContent = `${names.join(", ")} ${names.length > 1 ? "are" : "is"} at this request, too.`;
  const picture = request?.picture ?? null;
  $("start").hidden = picture === null;
  if (picture !== null) {
    const source = `/start/${picture}`;
    if ($("picture").getAttribute("src") !== source) $("picture").src = source;
    $("picture").alt = `How an earlier recording of ${request.task} starts`;
    $("caption").textContent = `The start of demonstration ${picture}, of the same task`;
  }
  $("skip").disabled = request === null;
  $("undo").disabled = view.undo === null;
  const what = view.undo && (view.undo.what === "skip" ? "the skip of request" : "demonstration");
  const by = view.undo?.by ? ` by ${view.undo.by}` : "";
  $("undone").textContent = view.undo
    ? `Undo takes back ${what} ${view.undo.demonstration} (${view.undo.task})${by}.`
    : "There is nothing to undo.";
  const target = request ? [["request", `request ${request.number} (${request.task})`]] : [];
  const tasks = view.tasks.map((task) => [`task ${task.task}`, `task ${task.task}, asked for or not`]);
  options($("target"), [...target, ["", "the task that the file says"], ...tasks]);
}

function showTrials() {
  const trials = view.trials;
  $("trials").hidden = trials === null;
  if (trials === null) return;
  const there = trials.policy !== null;
  $("policy").textContent = there
    ? `The policy after ${trials.policy} demonstrations: judged/${String(trials.policy).padStart(6, "0")}.safetensors`
    : "There is no policy to try yet.";
  $("trying").hidden = !there;
  options($("tried"), view.tasks.map((task) => [task.task, task.task]));
  $("back").disabled = trials.last === null;
  $("withdrawn").textContent = trials.last ? `Undo takes back: ${described(trials.last)}.` : "";
  $("rates").hidden = trials.rates.length === 0;
  $("rates").tBodies[0].replaceChildren(...rateRows(trials.rates));
  $("verdict").replaceChildren(...trials.sentences.map((sentence) => element("p", {}, sentence)));
  $("reasons").replaceChildren(...trials.reasons.map((reason) => element("option", { value: reason })));
}

function described(last) {
  const went = last.episodes === 1 ? (last.success ? "succeeded" : "failed") : `${last.success} of ${last.episodes}`;
  return [`${last.task} ${went}`, ...last.reasons, last.by && `by ${last.by}`].filter(Boolean).join(", ");
}

// Fills a list and keeps what somebody chose in it where that is still there.
function options(list, entries) {
  const before = [...list.options].map((option) => [option.value, option.textContent]);
  if (JSON.stringify(before) === JSON.stringify(entries)) return;
  const value = list.value;
  list.replaceChildren(...entries.map(([key, text]) => element("option", { value: key }, text)));
  const stays = list.dataset.chosen && entries.some(([key]) => key === value);
  list.value = stays ? value : (entries[0]?.[0] ?? "");
}

// What stands between backticks, and a command at the end, as code.
function withCode(sentence) {
  return sentence.split(/`([^`]*)`|: (amf .*)$/).flatMap((part, position) => {
    if (part === undefined || part === "") return [];
    if (position % 3 === 0) return [part];
    return position % 3 === 2 ? [": ", element("code", {}, part)] : [element("code", {}, part)];
  });
}

// -- acting -----------------------------------------------------------------------------------------------------------

// Whether an answer came, be it a refusal.
async function act(path, words) {
  if (busy) return false; // a second tap is no second answer
  busy = true;
  let came = true;
  try {
    told(await say(path, { ...words, by: who() }));
  } catch (error) {
    told([error.message], true);
    came = !error.unheard;
  }
  busy = false;
  await refresh();
  return came;
}

function told(sentences, wrong = false) {
  $("said").className = wrong ? "said wrong" : "said";
  $("said").textContent = sentences.join(" ");
}

function turn(by) {
  const open = view.requests.map((request) => request.number);
  if (open.length) chosen = open[(open.indexOf(chosen) + by + open.length) % open.length];
  show();
  refresh();
}

// Notes a trial. The same one said again after no answer came has the same name, under which it counts once.
let unsure = { text: "", id: "" };
async function note(words) {
  const text = JSON.stringify(words);
  if (unsure.text !== text) unsure = { text, id: word() };
  if (await act("/trials", { ...words, id: unsure.id })) unsure = { text: "", id: "" };
}

// Asks for a reason; the answer, or null if it is cancelled.
function ask(title, label, confirm, required) {
  $("asking-title").textContent = title;
  $("asking-label").textContent = label;
  $("confirm").textContent = confirm;
  $("reason").value = "";
  $("reason").required = required;
  $("asking").showModal();
  $("reason").focus();
  return new Promise((resolve) => {
    const end = (reason) => {
      $("answer").onsubmit = $("cancel").onclick = $("asking").onclose = null;
      $("asking").close();
      resolve(reason);
    };
    $("answer").onsubmit = (event) => {
      event.preventDefault();
      end($("reason").value.trim());
    };
    $("cancel").onclick = () => end(null);
    $("asking").onclose = () => end(null);
  });
}

const acts = {
  recorded: () => $("file").click(),
  skip: async () => {
    const request = chosen;
    const reason = await ask(`Skip request ${request} (${card().task})`, "Why will it not come?", "Skip", true);
    if (reason) act("/skip", { request, reason });
  },
  undo: () => act("/undo", { demonstration: view.undo.demonstration }),
  previous: () => turn(-1),
  next: () => turn(1),
  yes: () => note({ policy: view.trials.policy, task: $("tried").value, success: true }),
  no: async () => {
    const [policy, task] = [view.trials.policy, $("tried").value];
    const reason = await ask(`${task} failed`, "Why? (may be left empty)", "Note it", false);
    if (reason !== null) note({ policy, task, success: false, reason });
  },
  back: () => act("/trials/withdraw", { entry: view.trials.last.entry }),
};
for (const [id, does] of Object.entries(acts)) $(id).addEventListener("click", () => view && !view.error && does());

const KEYS = { r: "recorded", s: "skip", u: "undo", arrowleft: "previous", arrowright: "next", y: "yes", n: "no", z: "back" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("asking").open) return;
  if (event.target.closest("input, select, textarea, .scrolls")) return;
  const button = $(KEYS[event.key.toLowerCase()]);
  if (!button || button.disabled || !button.offsetParent) return;
  event.preventDefault();
  button.click();
});

// -- recordings -------------------------------------------------------------------------------------------------------

let line = Promise.resolve(); // one after the other

function handOver(files) {
  const [kind, ...rest] = $("target").value.split(" ");
  // A request is answered by one recording: of several each says itself what it shows.
  const words = { by: who() };
  if (kind === "task") words.task = rest.join(" ");
  else if (kind === "request" && chosen !== null && files.length === 1) words.request = chosen;
  for (const file of files) line = line.then(() => sendOne(file, words));
}

async function sendOne(file, words) {
  const bar = element("progress", { max: 1, value: 0, "aria-label": file.name });
  const entry = element("li", {}, `${file.name} `, bar);
  $("sent").prepend(entry);
  while ($("sent").children.length > 5) $("sent").lastChild.remove();
  try {
    if (file.size > view.largest) throw new Unusable(`${file.name} is larger than this desk takes in (--largest).`);
    const said = await send(file, words, (share) => (bar.value = share));
    entry.replaceChildren(said.join(" "));
    told([`${file.name} is kept.`]);
  } catch (error) {
    entry.className = "wrong";
    entry.replaceChildren(`${file.name}: ${error.message}`);
    told([`${file.name} was not taken in.`], true);
  }
  await refresh();
}

$("file").addEventListener("change", () => {
  if (view && !view.error) handOver([...$("file").files]);
  $("file").value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const items = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
  if (items.some((item) => item?.isDirectory)) return told(["Hand a folder over with: amf add RUN FOLDER"], true);
  if (view && !view.error) handOver([...event.dataTransfer.files]);
});

for (const id of ["target", "tried"]) $(id).addEventListener("change", () => ($(id).dataset.chosen = "yes"));

// -- beginning --------------------------------------------------------------------------------------------------------

$("by").value = localStorage.getItem("amf-desk-by") ?? "";
$("by").addEventListener("change", () => localStorage.setItem("amf-desk-by", $("by").value.trim()));
window.addEventListener("resize", () => view && !view.error && show());
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
