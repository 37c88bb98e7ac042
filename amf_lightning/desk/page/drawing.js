// Curve, bars and lists. Texts go in as text, never as HTML.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

// Mean score against demonstrations; points is [[demonstrations, score or null], …], width in pixels.
export function curve(points, width) {
  const known = points.filter(([, score]) => score !== null);
  const [height, left, right, top, bottom] = [Math.max(160, Math.min(240, width / 2)), 32, 12, 12, 30];
  const most = Math.max(1, ...known.map(([x]) => x));
  const low = Math.min(0, ...known.map(([, y]) => y));
  const high = Math.max(1, ...known.map(([, y]) => y));
  const x = (value) => left + (value / most) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const label = `Mean score: ${known.map(([at, score]) => `${number(score)} after ${at}`).join(", ")}`;
  const drawn = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const mark of [low, high]) {
    drawn.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }));
    drawn.append(shape("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, number(mark, 1)));
  }
  drawn.append(shape("text", { x: left, y: height - 10 }, "0"));
  drawn.append(shape("text", { x: width - right, y: height - 10, "text-anchor": "end" }, `${most} demonstrations`));
  const path = known.map(([at, score]) => `${x(at)},${y(score)}`).join(" ");
  drawn.append(shape("polyline", { class: "line", points: path }));
  for (const [at, score] of known) drawn.append(shape("circle", { class: "point", cx: x(at), cy: y(score), r: 4 }));
  return drawn;
}

// A row a task: a full bar of what came, a hollow one of what is open.
export function taskRows(tasks) {
  const most = Math.max(1, ...tasks.map((task) => task.came + task.open));
  return tasks.map((task) => {
    const bar = element("div", { class: "bar" });
    for (const part of [task.came, task.open]) {
      const piece = element("i");
      piece.style.flex = `0 0 ${(100 * part) / most}%`;
      piece.hidden = part === 0 && bar.children.length > 0;
      bar.append(piece);
    }
    const cells = [task.came, task.open, number(task.score)].map((value) => element("td", {}, String(value)));
    return element("tr", {}, element("th", { scope: "row" }, task.task), element("td", {}, bar), ...cells);
  });
}

export function rateRows(rates) {
  return rates.map((rate) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, rate.task),
      element("td", {}, `${rate.successes} of ${rate.trials}`),
      element("td", {}, `${number(rate.low)} to ${number(rate.high)}`),
    ),
  );
}

const DID = { add: "recorded", skip: "skipped", undo: "taken back" };

export function answerRows(answers) {
  return answers.map((answer) => {
    const when = new Date(answer.time);
    const isToday = when.toDateString() === new Date().toDateString();
    const text = isToday ? when.toLocaleTimeString() : when.toLocaleDateString();
    const time = element("time", { datetime: answer.time, class: "quiet small" }, text);
    const what = `${answer.demonstration} ${answer.task}`;
    const by = answer.by ? `by ${answer.by}` : "";
    const parts = [DID[answer.what] ?? answer.what, by, answer.reason && `“${answer.reason}”`];
    return element(
      "li",
      {},
      element("strong", {}, what),
      element("span", {}, parts.filter(Boolean).join(" ")),
      time,
    );
  });
}
